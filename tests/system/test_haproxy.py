"""HAProxy in front of three instances, as docs/deploy shows, while instances end.

One is killed with -9, one restarted, one drained, under a load of connections.
Connections that an instance has accepted come back complete, except on the killed one.
"""

from __future__ import annotations

import itertools
import random
import re
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.echo_programs import free_port
from tests.system.server import BIN, PATIENCE, Server, eventually, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.waits,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not shutil.which("haproxy"), reason="needs haproxy"),
]

RECIPE = (Path(__file__).parents[2] / "docs" / "deploy" / "haproxy.cfg").read_text()
CLIENTS = 40
# One of these in ten stays for longer than a drain delay.
LONG, LONG_SECONDS = 0.1, 7.0


def instance_command(port: int, status: int) -> list[str]:
    """The command line that the recipe says an instance is started with."""
    lines = re.findall(r"(?m)^#   +(.*?)\\?$", RECIPE)
    words = " ".join(lines).split()
    assert words[:3] == ["twistd", "-n", "echo"], words
    said = " ".join(words[3:])
    for old, new in (
        ("--interface 0.0.0.0", "--interface 127.0.0.1"),
        ("--port 9999", f"--port {port}"),
        ("192.0.2.0/24", "127.0.0.0/8"),
        ("tcp:9998:interface=0.0.0.0", f"tcp:{status}:interface=127.0.0.1"),
    ):
        assert old in said
        said = said.replace(old, new)
    more = ["--log", "connections", "--drain-timeout", "30"]
    return [str(BIN / "twistd"), "-n", "--pidfile=", "echo", *said.split(), *more]


class Instance:
    """One echo behind HAProxy, which can be started again on the same ports."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name = name
        self.port, self.status = free_port(), free_port()
        self._stack = stack
        self.server = self._start()

    def _start(self) -> Server:
        command = instance_command(self.port, self.status)
        server = self._stack.enter_context(running(command))
        server.wait_for(f"listening on 127.0.0.1:{self.port};")
        return server

    def kill(self) -> None:
        self.server.signal(signal.SIGKILL)
        self.server.wait()

    def drain(self) -> None:
        """Ask it to end, and wait until it has."""
        self.server.signal(signal.SIGTERM)
        assert self.server.wait(60) == -signal.SIGTERM

    def restart(self) -> None:
        self.drain()
        self.server = self._start()


def configuration(port: int, instances: list[Instance]) -> str:
    """The recipe, with the ports of this test, in one thread.

    With several threads, HAProxy drops a log line when another thread is writing one.
    """
    text, threads = re.subn(r"(?m)^global\n", "global\n    nbthread 1\n", RECIPE)
    text, bound = re.subn(r"(?m)^    bind :7$", f"    bind 127.0.0.1:{port}", text)
    text, served = re.subn(r"(?m)^    server .*\n", "", text)
    assert (threads, bound, served) == (1, 1, len(instances))
    for each in instances:
        text += f"    server {each.name} 127.0.0.1:{each.port} port {each.status}\n"
    return text


class Balancer:
    """A running HAProxy. Its log is a file: it drops lines that a pipe does not take at once."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def log(self) -> str:
        return self._file.read_text()

    def wait_for(self, pattern: str) -> None:
        assert eventually(lambda: bool(re.search(pattern, self.log))), self.log


@contextmanager
def haproxy(port: int, instances: list[Instance], folder: Path) -> Iterator[Balancer]:
    file, log = folder / "haproxy.cfg", folder / "haproxy.log"
    file.write_text(configuration(port, instances))
    balancer = Balancer(log)
    with running(["sh", "-c", f"exec haproxy -db -f '{file}' > '{log}' 2>&1"]):
        assert eventually(lambda: answers(port)), balancer.log
        yield balancer


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"x")
            return client.recv(1) == b"x"
    except OSError:
        return False


@dataclass(frozen=True)
class Held:
    """One connection, as its client saw it."""

    source: str
    began: float
    ended: float
    whole: bool
    what: str


class Load:
    """Clients that hold one connection after another, until they are told to stop."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.held: list[Held] = []
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._client, args=(seed,)) for seed in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def wait_for_more(self, count: int) -> None:
        goal = len(self.held) + count
        assert eventually(lambda: len(self.held) >= goal)

    def _address(self) -> str:
        """Return a loopback address that no other connection has."""
        number = next(self._numbers)
        return f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"

    def _client(self, seed: int) -> None:
        chance = random.Random(seed)
        while not self._over.is_set():
            self.held.append(self._connection(chance))

    def _connection(self, chance: random.Random) -> Held:
        payload = chance.randbytes(int(2 ** chance.uniform(0, 18)))
        pieces = [payload]
        if len(payload) > 4:
            cuts = sorted(chance.sample(range(1, len(payload)), 3))
            pieces = [payload[a:b] for a, b in zip([0, *cuts], [*cuts, len(payload)], strict=True)]
        length = LONG_SECONDS if chance.random() < LONG else chance.uniform(0, 0.2)
        began = time.monotonic()
        source, received, error = self._address(), b"", ""
        try:
            with socket.create_connection(
                ("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0)
            ) as client:
                reader = Reader(client)
                for piece in pieces:
                    client.sendall(piece)
                    time.sleep(length / len(pieces))
                client.shutdown(socket.SHUT_WR)
                received = reader.result()
                error = reader.error
        except OSError as problem:
            error = repr(problem)
        whole = received == payload and not error
        what = f"{len(received)} of {len(payload)} bytes {error}"
        return Held(source, began, time.monotonic(), whole, what)


class Reader(threading.Thread):
    """Reads to the end while another thread sends."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__()
        self._client = client
        self._chunks: list[bytes] = []
        self.error = ""
        self.start()

    def run(self) -> None:
        try:
            while chunk := self._client.recv(1 << 16):
                self._chunks.append(chunk)
        except OSError as problem:
            self.error = repr(problem)

    def result(self) -> bytes:
        self.join()
        return b"".join(self._chunks)


def served_by(balancer: Balancer) -> dict[str, str]:
    """The server that each client was given in the end, as HAProxy's log says."""
    return dict(re.findall(r"(127\.[1-9]\d*\.\d+\.\d+):\d+ (\S+) \d+ bytes", balancer.log))


def test_only_the_killed_ones_connections_are_lost(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as stack:
        killed, restarted, drained = instances = [
            Instance(f"echo-{number}", stack) for number in (1, 2, 3)
        ]
        balancer = stack.enter_context(haproxy(port, instances, tmp_path))
        load = Load(port)
        stack.callback(load.stop)
        load.wait_for_more(100)
        killed.kill()
        # Until then it has the fewest connections, so every new one is tried there first.
        balancer.wait_for(rf"Server echoes/{killed.name} is DOWN")
        load.wait_for_more(100)
        restarted.restart()
        # The next one to go leaves it alone with the load, so HAProxy has to have found it.
        balancer.wait_for(rf"Server echoes/{restarted.name} is UP")
        load.wait_for_more(100)
        drained.drain()
        load.wait_for_more(100)
        load.stop()
        sources = {held.source for held in load.held}
        eventually(lambda: sources <= set(served_by(balancer)))
        servers = served_by(balancer)
        unknown = [held for held in load.held if held.source not in servers]
        assert not unknown, f"{unknown}\n{balancer.log}"

        lost = [held for held in load.held if not held.whole]
        wrong = [
            (servers[held.source], held) for held in lost if servers[held.source] != killed.name
        ]
        assert lost
        assert not wrong, f"{wrong}\n{balancer.log}\n{restarted.server.log}"
        assert len(lost) <= CLIENTS
        print(f"{len(load.held)} connections held, {len(lost)} lost")
        # Each had its share.
        shares = Counter(servers.values())
        assert all(shares[each.name] >= 20 for each in instances), shares
        for each in (restarted, drained):
            # HAProxy was told of the drain by /readyz, and not by a closed port.
            balancer.wait_for(rf"Server echoes/{each.name} is DOWN.*503")
        # PROXY v2 gives the instance the client's address.
        known = set(re.findall(r"closed (127\.[\d.]+):\d+", restarted.server.log))
        assert known == {held.source for held in load.held} & known
        assert len(known) >= 20
