"""Correct echoes of every kind, and certificates for them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path as File

import pytest

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.target import Target
from tests.probe.faulty_paths import Path


@pytest.fixture(scope="session")
def right() -> Iterator[Path]:
    """A correct path."""
    with Path() as path:
        yield path


@pytest.fixture(scope="session")
def right_target(right: Path) -> Target:
    return Target.parse(f"127.0.0.1:{right.port}")


@pytest.fixture(scope="session")
def right_connector(right_target: Target) -> Connector:
    return connect(right_target)


@pytest.fixture
def small_catalogue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Campaigns run only the first cases of the catalogue, which are quick: single bytes."""
    monkeypatch.setattr("echoproto.probe.search.campaign.catalogue", lambda: catalogue()[:31])


ECHO_PROCESS = """
import asyncio

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)
    def pause_writing(self):
        self.transport.pause_reading()
    def resume_writing(self):
        self.transport.resume_reading()
    def eof_received(self):
        self.transport.write_eof()

async def main():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def echo_port() -> Iterator[int]:
    """The port of a correct echo in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-c", ECHO_PROCESS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.kill()


@dataclass(frozen=True)
class Certificates:
    """PEM files: a self-signed certificate for localhost, and its key."""

    cert: str
    key: str


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl program")
    folder = tmp_path_factory.mktemp("tls")
    made = Certificates(str(folder / "cert.pem"), str(folder / "key.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", made.key, "-out", made.cert],
        check=True, capture_output=True,
    )  # fmt: skip
    return made


Handler = Callable[[socket.socket], None]


@contextlib.contextmanager
def serving(handler: Handler, listener: socket.socket) -> Iterator[socket.socket]:
    """Call ``handler`` with each connection, one after the other, to the end of the block."""
    stopping = threading.Event()

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if stopping.is_set():
                sock.close()
                return
            with sock, contextlib.suppress(OSError):
                sock.settimeout(10)
                handler(sock)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        stopping.set()
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(15)
        listener.close()


def echo(sock: socket.socket) -> None:
    """Send back what is received, and close when the other side has closed."""
    while data := sock.recv(65536):
        sock.sendall(data)


@pytest.fixture
def tls_port(certificates: Certificates) -> Iterator[int]:
    """The port of an echo over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)

    def handler(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_side=True) as secure:
            echo(secure)

    with serving(handler, socket.create_server(("127.0.0.1", 0))) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def unix_path(tmp_path: File) -> Iterator[str]:
    """The path of an echo on a UNIX socket."""
    path = str(tmp_path / "echo.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    with serving(echo, listener):
        yield path
