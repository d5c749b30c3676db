"""Faults of a network: every connection comes back complete, and the service stays healthy.

Each test reports how long it took until all was normal; with ``-s`` the figures
are shown. docs/reliability.rst has those of one machine.
"""

from __future__ import annotations

import itertools
import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.system.conftest import Report
from tests.system.link import SERVER, Link, Weather, linked, syn
from tests.system.server import (
    Server,
    eventually,
    fill,
    receive_all,
    receive_exactly,
    running,
    say,
    twistd,
)

KIB = 1 << 10
MIB = 1 << 20
# Seconds for what a link has made slow. It bounds a hang and measures nothing.
PATIENCE = 90.0

SLOW_AND_WAITS = (pytest.mark.slow, pytest.mark.waits)

# Where the flood pretends to come from: addresses for tests of this kind (RFC 2544).
FLOOD_NETWORK = "198.18.0.0/15"


@pytest.fixture
def link() -> Iterator[Link]:
    with linked() as made:
        yield made


@pytest.fixture
def serve(link: Link) -> Iterator[Callable[..., Server]]:
    """Start a server at one end of the link."""
    with ExitStack() as servers:

        def start(*arguments: str) -> Server:
            command = [*link.server.inside, *twistd("--interface", SERVER, *arguments)]
            return servers.enter_context(running(command))

        yield start


def seconds_of_one(link: Link, server: Server) -> float:
    """Make one round trip on a new connection; return its seconds, from the first SYN."""
    began = time.monotonic()
    with link.client.connect(server.port, PATIENCE) as client:
        assert say(client, b"data") == b"data"
    return time.monotonic() - began


class Connections:
    """Connections of a payload each, held at once from the far end of a link."""

    def __init__(self, link: Link, server: Server, count: int, size: int) -> None:
        self._payloads = [bytes([n]) * size for n in range(count)]
        self._link = link
        self._port = server.port
        self._pool = ThreadPoolExecutor(count)
        self._backs = [self._pool.submit(self._hold, payload) for payload in self._payloads]

    def _hold(self, payload: bytes) -> bytes:
        with self._link.client.connect(self._port, PATIENCE) as client:
            return say(client, payload)

    def whole(self) -> bool:
        """Wait for all of them; tell whether every byte came back, in order."""
        with self._pool:
            return [each.result() for each in self._backs] == self._payloads


WEATHERS = {
    "loss 5%": Weather(loss=0.05),
    "delay 50 ms": Weather(delay=0.05),
    "reorder 25%": Weather(reorder=0.25),
    "duplicate 10%": Weather(duplicate=0.10),
    "all of it": Weather(loss=0.05, delay=0.05, reorder=0.25, duplicate=0.10),
}


@pytest.mark.slow
@pytest.mark.parametrize("weather", WEATHERS)
def test_connections_are_whole_in_any_weather(
    link: Link, serve: Callable[..., Server], weather: str, report: Report
) -> None:
    server = serve()
    assert seconds_of_one(link, server) < PATIENCE
    began = time.monotonic()
    assert Connections(link, server, count=20, size=256 * KIB).whole()
    clear = time.monotonic() - began
    link.weather = WEATHERS[weather]
    began = time.monotonic()
    assert Connections(link, server, count=20, size=256 * KIB).whole()
    report(
        "20 connections of 256 KiB",
        f"{time.monotonic() - began:.2f} s, {clear:.2f} s in clear weather",
    )
    link.weather = Weather()
    report("until normal", f"{seconds_of_one(link, server):.3f} s")
    assert "Traceback" not in server.log


def test_connections_are_whole_in_the_worst_weather(
    link: Link, serve: Callable[..., Server]
) -> None:
    server = serve()
    link.weather = WEATHERS["all of it"]
    assert Connections(link, server, count=4, size=16 * KIB).whole()
    assert link.lost


@pytest.mark.parametrize(
    ("seconds", "size"), [(0.3, 2 * MIB), pytest.param(10.0, 8 * MIB, marks=SLOW_AND_WAITS)]
)
def test_a_link_that_was_cut_and_healed(
    link: Link, serve: Callable[..., Server], seconds: float, size: int, report: Report
) -> None:
    server = serve()
    # So much is on its way that the cut comes in the middle.
    link.weather = Weather(delay=0.02)
    connections = Connections(link, server, count=4, size=size)
    assert eventually(lambda: link.carried > 500)
    link.weather = replace(link.weather, cut=True)
    time.sleep(seconds)
    link.weather = Weather()
    healed = time.monotonic()
    report("a new connection after", f"{seconds_of_one(link, server):.3f} s")
    assert connections.whole()
    report(f"4 connections of {size // MIB} MiB over after", f"{time.monotonic() - healed:.2f} s")
    assert link.lost
    assert "Traceback" not in server.log


@pytest.mark.parametrize(
    ("seconds", "count", "size"),
    [(0.5, 3, MIB), pytest.param(60.0, 10, 4 * MIB, marks=SLOW_AND_WAITS)],
)
def test_zero_windows_held(
    link: Link, serve: Callable[..., Server], seconds: float, count: int, size: int, report: Report
) -> None:
    server = serve()
    payload = bytes(range(256)) * (size // 256)
    with ExitStack() as stack:

        def connect() -> socket.socket:
            return stack.enter_context(
                link.client.connect(server.port, PATIENCE, receive_buffer=2048)
            )

        # The first client also pays for what is allocated once.
        fill(connect(), payload)
        memory = server.rss()
        clients = [connect() for _ in range(count)]
        # Until nothing more is taken: their windows are closed, and so are the server's.
        sent = [fill(client, payload) for client in clients]
        before = link.server.counters()["TCPWinProbe"]
        time.sleep(seconds)

        def probes() -> int:
            return link.server.counters()["TCPWinProbe"] - before

        assert eventually(lambda: probes() > 0)
        grown = (server.rss() - memory) // len(clients)
        assert grown <= 256 * KIB
        report("others meanwhile", f"{seconds_of_one(link, server):.3f} s a connection")
        for client in clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, MIB)
        opened = time.monotonic()
        with ThreadPoolExecutor(len(clients)) as pool:
            rests = [payload[done:] for done in sent]
            assert list(pool.map(say, clients, rests)) == [payload] * len(clients)
    report("window probes", str(probes()))
    report("memory", f"{grown // KIB} KiB a client")
    report(
        f"{count} connections of {size // MIB} MiB over after",
        f"{time.monotonic() - opened:.2f} s",
    )


def flood(link: Link, port: int, over: threading.Event) -> None:
    """Send SYNs from addresses that no host has: 5,000, and then more until told to stop."""
    for n in itertools.count():
        if n >= 5000 and over.is_set():
            return
        link.to_server(syn(f"198.18.{n >> 8 & 255}.{n & 255}", 40000, port))


def status_of(link: Link, port: int) -> dict[str, int]:
    """Ask the status what the kernel has dropped."""
    with link.client.connect(port, PATIENCE) as client:
        client.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = receive_all(client)
    told: dict[str, int] = json.loads(answer.partition(b"\r\n\r\n")[2])["drops"]
    return told


@pytest.mark.parametrize("cookies", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_syn_flood_does_not_affect_open_connections(
    link: Link, serve: Callable[..., Server], cookies: int, report: Report
) -> None:
    link.server.set("net.ipv4.tcp_syncookies", cookies)
    link.server.ip("route", "add", FLOOD_NETWORK, "dev", "tun0")
    server = serve("--backlog", "16", "--status", f"tcp:0:interface={SERVER}")
    port = server.port
    status_port = int(server.wait_for(r"status on \S+:(\d+)")[1])
    with link.client.connect(port, PATIENCE) as inside, ThreadPoolExecutor(1) as pool:

        def ping() -> float:
            began = time.monotonic()
            inside.sendall(b"x" * KIB)
            assert receive_exactly(inside, KIB) == b"x" * KIB
            return time.monotonic() - began

        def full() -> int:
            """Return how many SYNs have found the queue full."""
            now = link.server.counters()
            names = ("TCPReqQFullDoCookies", "TCPReqQFullDrop")
            return sum(now[name] - before[name] for name in names)

        ping()
        before = link.server.counters()
        over = threading.Event()
        flooding = pool.submit(flood, link, port, over)
        try:
            # How many fit into a flood of a given length depends on the machine.
            assert eventually(lambda: full() > 0)
            times = sorted(ping() for _ in range(50))
            newcomer = seconds_of_one(link, server) if cookies else None
        finally:
            over.set()
        flooding.result()
        if newcomer is None:
            newcomer = seconds_of_one(link, server)
    after = link.server.counters()
    counted = {name: after[name] - before[name] for name in after}
    report("a newcomer", f"{newcomer:.3f} s")
    report(
        "round trips meanwhile",
        f"{len(times)}, median {times[len(times) // 2] * 1000:.2f} ms, "
        f"worst {times[-1] * 1000:.1f} ms",
    )
    for name in ("SyncookiesSent", "TCPReqQFullDoCookies", "TCPReqQFullDrop", "ListenDrops"):
        report(name, str(counted[name]))
    # The status counts from its start, which was a moment earlier.
    told = status_of(link, status_port)
    assert told["drops"] == counted["ListenDrops"]
    assert told["cookies"] == counted["SyncookiesSent"]
    if cookies:
        # All but those that filled the queue; a newcomer is in at once.
        assert counted["SyncookiesSent"] == counted["TCPReqQFullDoCookies"] > 4000
        assert counted["ListenDrops"] == 0
    else:
        # He gets in when the kernel has given some of them up.
        assert counted["TCPReqQFullDrop"] == counted["ListenDrops"] > 4000
        assert counted["SyncookiesSent"] == 0
    report("until normal", f"{seconds_of_one(link, server):.3f} s")
    assert "Traceback" not in server.log


def two_writes(link: Link, port: int, connected: Callable[[], object]) -> bytes:
    """Return what comes back of a first write of one byte and a second one of five."""
    try:
        with link.client.connect(port, PATIENCE) as client:
            connected()
            client.sendall(b"a")
            client.sendall(b"bbbbb")
            client.shutdown(socket.SHUT_WR)
            return receive_all(client)
    except ConnectionError as error:
        return repr(error).encode()


@pytest.mark.parametrize(("backlog", "cookies"), [(1024, 1), (5, 0)])
def test_a_crowd_loses_nothing_in_a_listen_queue(
    link: Link, serve: Callable[..., Server], backlog: int, cookies: int, report: Report
) -> None:
    """With 5 and 1, the kernel resets 24 of these 30: docs/listen-queue.rst."""
    link.server.set("net.ipv4.tcp_syncookies", cookies)
    server = serve("--backlog", str(backlog))
    port, crowd = server.port, 30
    link.weather = Weather(delay=0.02)
    server.signal(signal.SIGSTOP)
    connected = threading.Semaphore(0)
    with ThreadPoolExecutor(crowd) as pool:
        coming = [pool.submit(two_writes, link, port, connected.release) for _ in range(crowd)]
        # All that fit are in the queue; the others try again later.
        assert all(connected.acquire(timeout=PATIENCE) for _ in range(min(crowd, backlog + 1)))
        server.signal(signal.SIGCONT)
        back = [one.result() for one in coming]
    report("dropped", str(link.server.counters()["ListenDrops"]))
    assert back == [b"abbbbb"] * crowd


def settle(link: Link) -> None:
    """Wait until nothing has been carried for longer than an acknowledgement is delayed."""
    carried = -1
    while carried != link.carried:
        carried = link.carried
        time.sleep(0.5)


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.parametrize(
    "options", [("--lane", "fast"), ("--lane", "stock"), ("--workers", "2")], ids="-".join
)
def test_a_cut_link_does_not_keep_newcomers_out(
    link: Link, serve: Callable[..., Server], options: Sequence[str], report: Report
) -> None:
    """Its clients are gone without a FIN; their slots are free again when TCP has asked."""
    server = serve("--max-connections", "3", "--keepalive", "1", "--log", "connections", *options)
    with ExitStack() as stack:
        held = [stack.enter_context(link.client.connect(server.port, PATIENCE)) for _ in range(3)]
        for each in held:
            each.sendall(b"x")
            assert each.recv(1) == b"x"
        server.wait_for_times("opened ", 3)
        # The acknowledgement of an echo may be delayed. While one is missing, TCP does not ask:
        # it sends again, for a quarter of an hour.
        settle(link)
        link.weather = Weather(cut=True)
        began = time.monotonic()
        server.wait_for_times("closed ", 3)
        report("cut link: slots free after", f"{time.monotonic() - began:.1f} s")
        link.weather = Weather()
        assert seconds_of_one(link, server) < PATIENCE


@pytest.mark.slow
@pytest.mark.waits
def test_a_client_that_is_there_and_silent_is_kept(
    link: Link, serve: Callable[..., Server]
) -> None:
    server = serve("--keepalive", "1", "--log", "connections")
    with link.client.connect(server.port, PATIENCE) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"
        carried = link.carried
        # What TCP would have given a dead one; the time is the test.
        time.sleep(8)
        assert link.carried > carried
        assert "closed " not in server.log
        assert say(client, b"data") == b"data"
