"""close_notify over TLS, in both lanes: all that was sent before it comes back."""

from __future__ import annotations

import random
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from echoproto.probe.search.preflight import preflight
from echoproto.probe.wire.target import Target
from tests.system.conftest import in_both_lanes
from tests.system.server import BIN, PATIENCE, Server, running
from tests.system.test_endpoints import TAC
from tests.system.test_pressure import CONNECTION, assert_stuck_clients_cost_little, needs_proc
from tests.tls import VERSIONS, End, TLSClient, make_certificate
from tests.twisted_versions import HAS_TLS_ENDPOINT

pytest.importorskip("OpenSSL", reason="needs Twisted[tls]")
pytestmark = in_both_lanes
in_both_versions = pytest.mark.parametrize("version", VERSIONS)

MIB = 1 << 20
RESET = struct.pack("ii", 1, 0)


@contextmanager
def start(endpoint: str, lane: str, directory: Path) -> Iterator[Server]:
    tac = directory / "echo.tac"
    tac.write_text(TAC.format(endpoint=endpoint, fast=lane == "fast"))
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "-y", str(tac)]
    with running(command, cwd=directory) as server:
        server.wait_for("listening on ")
        yield server


@contextmanager
def start_ssl(lane: str, directory: Path) -> Iterator[Server]:
    pem = make_certificate(directory / "both.pem")
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with start(endpoint, lane, directory) as server:
        yield server


@pytest.fixture(scope="module")
def server(lane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all tests that leave it as it was."""
    with start_ssl(lane, tmp_path_factory.mktemp("tls")) as started:
        yield started


class Client(TLSClient):
    """A TLS client on a socket."""

    def __init__(self, sock: socket.socket, version: ssl.TLSVersion = VERSIONS[-1]) -> None:
        super().__init__(version)
        self.sock = sock
        while not self.handshake():
            self.flush()
            self._read()
        self.flush()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        self.sock.sendall(self.to_send())

    def _read(self, size: int = 1 << 16) -> None:
        self.receive(self.sock.recv(size))

    def read_to(self, size: int) -> bytes:
        while len(self.back) < size and self.end is None:
            self._read()
        return bytes(self.back)

    def read_to_end(self, at_once: int = 1 << 16) -> bytes:
        while self.end is None:
            self._read(at_once)
        return bytes(self.back)

    def tell(self, payload: bytes, close_notify: bool, fin: bool, at_once: int = 1 << 16) -> bytes:
        """Say a payload and the end, in one go; return what comes back."""
        self.say(payload)
        if close_notify:
            self.close_notify()
        # Sent beside the reading, and encrypted before: two threads may not share a session.
        sender = threading.Thread(target=self._send, args=(self.to_send(), fin))
        sender.start()
        try:
            return self.read_to_end(at_once)
        finally:
            sender.join()

    def _send(self, wire: bytes, fin: bool) -> None:
        try:
            self.sock.sendall(wire)
            if fin:
                self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the reader sees what was lost


ENDINGS = {
    "close_notify": (True, False),
    "close_notify and FIN": (True, True),
    "FIN alone": (False, True),
}


@in_both_versions
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_comes_before_the_end_comes_back(
    server: Server, version: ssl.TLSVersion, ending: str
) -> None:
    for size in (*[100] * (50 if ending == "close_notify and FIN" else 10), 0, 1, 16_384, 100_000):
        payload = random.Random(size).randbytes(size)
        with Client(server.connect(), version) as client:
            assert client.tell(payload, *ENDINGS[ending]) == payload
            assert client.end is End.CLOSE_NOTIFY
            assert client.sock.recv(1) == b""


@in_both_versions
def test_so_does_much(server: Server, version: ssl.TLSVersion) -> None:
    payload = random.Random(0).randbytes(16 * MIB)
    with Client(server.connect(), version) as client:
        assert client.tell(payload, True, True) == payload
        assert client.end is End.CLOSE_NOTIFY


@in_both_versions
def test_a_slow_reader_gets_all(server: Server, version: ssl.TLSVersion) -> None:
    payload = random.Random(0).randbytes(2 * MIB)
    sock = socket.socket()
    sock.settimeout(PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", server.port))
    with Client(sock, version) as client:
        assert client.tell(payload, True, True, at_once=2048) == payload
        assert client.end is End.CLOSE_NOTIFY


@in_both_versions
def test_a_pause_before_the_end(server: Server, version: ssl.TLSVersion) -> None:
    with Client(server.connect(), version) as client:
        client.say(b"first")
        client.flush()
        assert client.read_to(5) == b"first"
        assert client.tell(b", then", True, False) == b"first, then"
        assert client.end is End.CLOSE_NOTIFY
        client.sock.shutdown(socket.SHUT_WR)
        assert client.sock.recv(1) == b""


@pytest.mark.skipif(shutil.which("socat") is None, reason="needs socat")
@pytest.mark.parametrize("size", [0, 100, MIB])
def test_socat_gets_all(server: Server, size: int) -> None:
    payload = random.Random(size).randbytes(size)
    done = subprocess.run(
        ["socat", "-t", str(PATIENCE), "-", f"OPENSSL:127.0.0.1:{server.port},verify=0"],
        input=payload,
        capture_output=True,
        timeout=2 * PATIENCE,
        check=True,
    )
    assert done.stdout == payload


def test_the_probe_sees_it(server: Server) -> None:
    _, known = preflight(Target.parse(f"tls:127.0.0.1:{server.port}", insecure=True))
    assert known.half_close_in_words == "half-close (TLSv1.3 close_notify) survives"


def test_strangers_and_failures_leave_no_line(server: Server) -> None:
    before = server.log
    for said in (b"", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01", bytes(1000)):
        for reset in (False, True):
            with server.connect() as sock:
                sock.sendall(said)
                if reset:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                elif said:
                    sock.shutdown(socket.SHUT_WR)
                    with suppress(ConnectionError):
                        while sock.recv(1 << 16):
                            pass
    # A client that trusts no certificate, and one that has no version in common.
    context = ssl.create_default_context()
    with server.connect() as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock, server_hostname="localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-RSA-AES128-SHA")
    with server.connect() as sock, pytest.raises(ssl.SSLError):
        context.wrap_socket(sock)
    # What is no record, after the handshake; and a reset amid a connection.
    with Client(server.connect()) as client:
        client.sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        while client.sock.recv(1 << 16):
            pass
    with Client(server.connect()) as client:
        client.say(bytes(MIB))
        client.flush()
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    with Client(server.connect()) as client:
        assert client.tell(b"all is well", True, True) == b"all is well"
    assert server.log == before


@pytest.mark.skipif(not HAS_TLS_ENDPOINT, reason="needs Twisted 26.4")
def test_the_tls_endpoint(lane: str, tmp_path: Path) -> None:
    """Twisted's ``tls:``, which takes a directory of certificates and no other way in."""
    pems = tmp_path / "pems"
    pems.mkdir()
    make_certificate(pems / "localhost.pem")
    endpoint = f"tls:{pems}:port=0:interface=127.0.0.1"
    with start(endpoint, lane, tmp_path) as server:
        for size in (1, 100, MIB):
            payload = random.Random(size).randbytes(size)
            with Client(server.connect()) as client:
                assert client.tell(payload, True, True) == payload
                assert client.end is End.CLOSE_NOTIFY


def test_close_notify_ends_a_drain(lane: str, tmp_path: Path) -> None:
    with start_ssl(lane, tmp_path) as server, ExitStack() as stack:
        clients = [stack.enter_context(Client(server.connect(), v)) for v in VERSIONS * 5]
        for client in clients:
            client.say(b"before")
            client.flush()
            assert client.read_to(6) == b"before"
        server.signal(signal.SIGTERM)
        server.wait_for("draining: 10 connections")
        for client in clients:
            assert client.tell(bytes(MIB), True, True) == b"before" + bytes(MIB)
            assert client.end is End.CLOSE_NOTIFY
        assert server.wait() == -signal.SIGTERM
        assert "drained" in server.log
        assert "Traceback" not in server.log


@needs_proc
@pytest.mark.slow  # the client has much to encrypt
def test_tiny_unread_records_cost_little(lane: str, tmp_path: Path) -> None:
    with start_ssl(lane, tmp_path) as server, ExitStack() as stack:

        def get_stuck() -> None:
            # What the kernels hold is not the server's memory, and takes long to encrypt. The
            # server's send buffer grows with the size of a segment and with the window, and its
            # receive buffer with what is sent at once; that is still more than the server reads.
            sock = socket.socket()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1000)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
            sock.connect(("127.0.0.1", server.port))
            client = stack.enter_context(Client(sock))
            client.sock.settimeout(0.1)
            end = time.monotonic() + PATIENCE
            try:
                while time.monotonic() < end:
                    for _ in range(10_000):
                        client.say(b"x")
                    client.flush()
            except TimeoutError:
                pass  # full
            assert time.monotonic() < end

        assert_stuck_clients_cost_little(server, 5, get_stuck, CONNECTION)
