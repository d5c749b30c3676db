"""Two network namespaces, and a link between them whose quality a test sets.

Each namespace has a TUN device; a thread of the test carries IP packets from one to
the other, and on the way loses, delays, reorders or doubles them. It
needs root and ``/dev/net/tun`` and nothing else: netem, which does the same in
the kernel, is missing from many.

Source: the kernel's ``Documentation/networking/tuntap.rst``, ``setns(2)``.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import random
import select
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

# linux/if_tun.h
_TUNSETIFF = 0x400454CA
_IFF_TUN = 0x0001
_IFF_NO_PI = 0x1000
# linux/sched.h
_CLONE_NEWNET = 0x40000000

_DEVICE = "tun0"
SERVER = "10.77.0.1"
CLIENT = "10.77.0.2"

# Seconds by which a packet comes late when it is to be overtaken.
_LATE = 0.01


class Namespace:
    """A network namespace of the test's own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = ("ip", "netns", "exec", name)

    def enter(self, function: Callable[[], T]) -> T:
        """Call a function there.

        A socket that it opens stays there, and so does a process that it starts.
        """
        # A thread of its own: one that has gone there does not come back.
        with ThreadPoolExecutor(1, initializer=self._go_there) as thread:
            return thread.submit(function).result()

    def _go_there(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.name}") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")

    def connect(self, port: int, timeout: float = 30.0, receive_buffer: int = 0) -> socket.socket:
        """Connect to a port of the server's namespace from here.

        :param receive_buffer: the size of ``SO_RCVBUF`` in bytes; 0 for what the kernel sees fit.
        """
        sock = self.enter(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        try:
            if receive_buffer:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(timeout)
            sock.connect((SERVER, port))
        except BaseException:
            sock.close()
            raise
        return sock

    def set(self, sysctl: str, value: int) -> None:
        """Set a kernel setting of this namespace, such as ``net.ipv4.tcp_syncookies``."""
        path = Path("/proc/sys", *sysctl.split("."))
        self.enter(lambda: path.write_text(str(value)))

    def counters(self) -> dict[str, int]:
        """Return the TCP counters of this namespace, by the names that ``nstat`` shows."""
        text = self.enter(lambda: Path("/proc/thread-self/net/netstat").read_text())
        names, values = (
            line.split()[1:] for line in text.splitlines() if line.startswith("TcpExt:")
        )
        return dict(zip(names, map(int, values), strict=True))

    def open_tun(self) -> int:
        """Make the namespace's TUN device; return the descriptor on which its packets come."""

        def open_there() -> int:
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            request = struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI)
            fcntl.ioctl(fd, _TUNSETIFF, request)
            return fd

        return self.enter(open_there)

    def ip(self, *arguments: str) -> None:
        """Run ip (iproute2) here."""
        subprocess.run(["ip", "-n", self.name, *arguments], check=True, capture_output=True)


@dataclass(frozen=True)
class Weather:
    """What happens to packets; each share is a probability.

    :ivar delay: seconds on the way.
    :ivar reorder: the share that comes late, so that others overtake it.
    :ivar cut: nothing passes.
    """

    loss: float = 0.0
    delay: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    cut: bool = False


class Link:
    """A wire between two namespaces, and the weather on it.

    :ivar server: where the server runs, at the address :data:`SERVER`.
    :ivar client: where clients are, at :data:`CLIENT`.
    :ivar weather: may be set at any time.
    :ivar lost: how many packets it has lost.
    :ivar carried: how many it has taken.
    """

    def __init__(self, server: Namespace, client: Namespace, seed: int = 1) -> None:
        self.server = server
        self.client = client
        self.weather = Weather()
        self.lost = 0
        self._random = random.Random(seed)
        self._tuns = [server.open_tun(), client.open_tun()]
        for namespace, here, there in ((server, SERVER, CLIENT), (client, CLIENT, SERVER)):
            namespace.ip("address", "add", here, "peer", there, "dev", _DEVICE)
            # Enough that only the weather loses packets.
            namespace.ip("link", "set", _DEVICE, "txqueuelen", "20000", "up")
            namespace.ip("link", "set", "lo", "up")
        # Packets on their way: when they arrive, their order, where, and what.
        self._flying: list[tuple[float, int, int, bytes]] = []
        self.carried = 0
        self._closing, self._close = os.pipe()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def to_server(self, packet: bytes) -> None:
        """Inject an IP packet into the server's namespace."""
        os.write(self._tuns[0], packet)

    def close(self) -> None:
        os.close(self._close)
        self._thread.join()
        for fd in (*self._tuns, self._closing):
            os.close(fd)

    def _carry(self) -> None:
        poll = select.poll()
        for fd in (*self._tuns, self._closing):
            poll.register(fd, select.POLLIN | select.POLLHUP)
        there = dict(zip(self._tuns, reversed(self._tuns), strict=True))
        while True:
            for fd, _ in poll.poll(self._milliseconds()):
                if fd == self._closing:
                    return
                with suppress(BlockingIOError):
                    # Not for ever: what flies has to land.
                    for _ in range(64):
                        self._depart(os.read(fd, 1 << 16), there[fd])
            now = time.monotonic()
            while self._flying and self._flying[0][0] <= now:
                _, _, fd, packet = heapq.heappop(self._flying)
                # A namespace that is being taken down takes nothing.
                with suppress(OSError):
                    os.write(fd, packet)

    def _milliseconds(self) -> float | None:
        if not self._flying:
            return None
        return max(0.0, self._flying[0][0] - time.monotonic()) * 1000

    def _depart(self, packet: bytes, fd: int) -> None:
        weather, chance = self.weather, self._random.random
        if weather.cut or chance() < weather.loss:
            self.lost += 1
            return
        for _ in range(2 if chance() < weather.duplicate else 1):
            arrival = time.monotonic() + weather.delay
            if chance() < weather.reorder:
                arrival += _LATE
            self.carried += 1
            heapq.heappush(self._flying, (arrival, self.carried, fd, packet))


def _missing() -> str | None:
    """Return what this machine lacks for a link."""
    if not sys.platform.startswith("linux") or not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun"
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return "needs root and ip (iproute2) to make a network namespace"
    return None


@contextmanager
def _namespace() -> Iterator[Namespace]:
    namespace = Namespace(f"echoproto-{uuid.uuid4().hex[:8]}")
    made = subprocess.run(["ip", "netns", "add", namespace.name], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"cannot make a network namespace: {made.stderr.strip()}")
    try:
        yield namespace
    finally:
        subprocess.run(["ip", "netns", "delete", namespace.name], check=True, capture_output=True)


@contextmanager
def linked() -> Iterator[Link]:
    """Make two namespaces and a link between them, or skip the test where that cannot be done."""
    missing = _missing()
    if missing is not None:
        pytest.skip(missing)
    with ExitStack() as stack:
        server, client = (stack.enter_context(_namespace()) for _ in range(2))
        try:
            link = Link(server, client)
        except OSError as error:
            pytest.skip(f"cannot make a link: {error}")
        stack.callback(link.close)
        yield link


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def syn(source: str, source_port: int, port: int) -> bytes:
    """Return the IP packet of a SYN to a port of the server's."""
    addresses = socket.inet_aton(source) + socket.inet_aton(SERVER)
    data_offset, flag, window = 5 << 4, 0x02, 65535

    def segment(check: int) -> bytes:
        return struct.pack(
            "!HHIIBBHHH", source_port, port, 1, 0, data_offset, flag, window, check, 0
        )

    pseudo_header = addresses + struct.pack("!HH", socket.IPPROTO_TCP, len(segment(0)))
    tcp = segment(checksum(pseudo_header + segment(0)))

    def header(check: int) -> bytes:
        version, ttl = 0x45, 64
        return (
            struct.pack(
                "!BBHHHBBH", version, 0, 20 + len(tcp), 0, 0, ttl, socket.IPPROTO_TCP, check
            )
            + addresses
        )

    return header(checksum(header(0))) + tcp
