"""TLS with the usual clients: ALPN, client certificates, versions, and a renewal under load."""

from __future__ import annotations

import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.marks import one_quick
from tests.system.server import PATIENCE, Server, running, twistd
from tests.tls import VERSIONS, Issued

pytest.importorskip("OpenSSL", reason="needs the extra tls")
needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the Debian package openssl"
)

PLACES = {
    "fast lane": ["--lane", "fast"],
    "stock lane": ["--lane", "stock"],
    "workers": ["--workers", "2"],
}
everywhere = pytest.mark.parametrize("place", PLACES)


def strings(pem: Path) -> list[str]:
    where = "interface=127.0.0.1"
    return [f"ssl:0:privateKey={pem}:{where}", f"tls:{pem.parent}:port=0:{where}"]


def ports(server: Server, processes: int = 1) -> list[int]:
    """Wait until a server with two listeners serves them; return their ports."""
    server.wait_for_times("listening on ", 2 * processes)
    lines = [line for line in server.lines if "listening on " in line]
    found = {int(line.partition("127.0.0.1:")[2].partition(";")[0]) for line in lines}
    assert len(found) == 2
    return sorted(found)


@contextmanager
def serving(pem: Path, place: str, *options: str) -> Iterator[tuple[Server, list[int]]]:
    """Serve ``ssl:`` and ``tls:`` from a command line."""
    listeners = [word for each in strings(pem) for word in ("--listen", each)]
    command = twistd(*listeners, *PLACES[place], *options, port=None)
    with running(command) as server:
        yield server, ports(server, 2 if place == "workers" else 1)


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    directory = tmp_path / "pems"
    directory.mkdir()
    return Issued(serial=1).write(directory / "a.pem")


def client(
    version: ssl.TLSVersion | None = None, certificate: Path | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if certificate is not None:
        context.load_cert_chain(certificate)
    return context


def connect(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    return context.wrap_socket(sock, server_hostname="localhost")


def echoes(sock: ssl.SSLSocket) -> bool:
    sock.sendall(b"data")
    back = b""
    while len(back) < 4:
        more = sock.recv(4)
        if not more:
            return False
        back += more
    return back == b"data"


def is_served(port: int, context: ssl.SSLContext) -> bool:
    """Tell whether a client is served; in TLS 1.3 its handshake ends before the server's."""
    try:
        with connect(port, context) as sock:
            return echoes(sock)
    except OSError:
        return False


def serial(sock: ssl.SSLSocket) -> int:
    from cryptography.x509 import load_der_x509_certificate

    der = sock.getpeercert(binary_form=True)
    assert der is not None
    return load_der_x509_certificate(der).serial_number


@pytest.mark.slow
@needs_openssl
@everywhere
def test_a_client_that_offers_protocols(pem: Path, place: str) -> None:
    with serving(pem, place) as (_, found):
        for port in found:
            for version in ("-tls1_2", "-tls1_3"):
                for name in (["-servername", "localhost"], ["-noservername"]):
                    to = ["-connect", f"127.0.0.1:{port}"]
                    done = subprocess.run(
                        ["openssl", "s_client", "-alpn", "h2,http/1.1", version, *name, *to],
                        input="",
                        capture_output=True,
                        text=True,
                        timeout=PATIENCE,
                        check=False,
                    )
                    assert done.returncode == 0, done.stderr
                    assert "No ALPN negotiated" in done.stdout


@everywhere
def test_client_certificates(pem: Path, place: str, tmp_path: Path) -> None:
    authority = Issued(["CA"], ca=True)
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate_pem())
    right = Issued(["client"], issuer=authority).write(tmp_path / "right.pem")
    wrong = Issued(["client"]).write(tmp_path / "wrong.pem")
    with serving(pem, place, "--tls-client-ca", str(ca)) as (server, found):
        for port in found:
            for version in VERSIONS:
                assert is_served(port, client(version, right))
                assert not is_served(port, client(version))
                assert not is_served(port, client(version, wrong))
        server.wait_for(r"refused 127\.0\.0\.1:\d+: no client certificate.* \(--tls-client-ca\)")
        assert "Traceback" not in server.log


@pytest.mark.parametrize("place", one_quick(PLACES))
def test_a_minimum_version(pem: Path, place: str) -> None:
    with serving(pem, place, "--tls-min-version", "1.3") as (_, found):
        for port in found:
            with connect(port, client()) as sock:
                assert (sock.version(), echoes(sock)) == ("TLSv1.3", True)
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                connect(port, client(ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_files_are_checked_before_a_port_is_opened(
    pem: Path, workers: list[str], tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(Issued().key_pem())
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(Issued().key_pem(b"secret"))
    for key, reason in ((other, "was not issued for"), (encrypted, "the private key is encrypted")):
        endpoint = f"ssl:0:privateKey={key}:certKey={pem}"
        done = subprocess.run(
            twistd("--listen", endpoint, *workers, port=None),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            # Without a terminal that could be asked.
            start_new_session=True,
        )
        assert done.returncode == 1
        (line,) = (done.stdout + done.stderr).splitlines()
        assert line.startswith("--listen ssl:0:")
        assert reason in line


class Load:
    """Clients that connect, echo and close without a pause; each notes what it saw."""

    def __init__(self, found: list[int]) -> None:
        self.failures: list[Exception] = []
        self._seen = threading.Condition()
        self._serials: list[int] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(port, client(version)))
            for port in found
            for version in VERSIONS
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, port: int, context: ssl.SSLContext) -> None:
        while not self._stop.is_set():
            try:
                with connect(port, context) as sock:
                    assert echoes(sock)
                    shown = serial(sock)
            except Exception as error:
                self.failures.append(error)
                return
            with self._seen:
                self._serials.append(shown)
                self._seen.notify_all()

    def more(self, number: int = 40) -> list[int]:
        """Wait for this many more connections; return the serials that they saw."""
        with self._seen:
            before = len(self._serials)
            self._seen.wait_for(
                lambda: self.failures or len(self._serials) >= before + number, PATIENCE
            )
            assert not self.failures
            return self._serials[before:]

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_renewal_under_load(pem: Path, processes: int) -> None:
    options = ("--workers", str(processes))
    listen = [f"--listen={each}" for each in strings(pem)]
    with running(twistd(*options, *listen, port=None)) as server, ExitStack() as stack:
        found = ports(server, processes)
        old = [stack.enter_context(connect(port, client())) for port in found]
        load = Load(found)
        stack.callback(load.stop)
        assert set(load.more()) == {1}
        for number in range(2, 5):
            Issued(serial=number).write(pem)
            server.signal(signal.SIGHUP)
            server.wait_for_times(f"{pem} (localhost, serial {number}, expires ", 2 * processes)
            shown = load.more()
            # Each client may have been within a connection.
            assert shown.count(number - 1) <= len(VERSIONS) * len(found)
            assert set(shown) <= {number - 1, number}
        pem.write_text("junk")
        server.signal(signal.SIGHUP)
        server.wait_for_times("; the old one stays in use", 2)
        load.more()
        # By now no client is within a connection that is older than the last renewal.
        assert set(load.more()) == {number}
        load.stop()
        assert load.failures == []
        assert all(echoes(sock) for sock in old)
        # One line for a listener, whatever the number of workers.
        assert server.log.count("cannot reload") == 2
        assert server.log.count("reloaded ") == 2 * processes * 3
        assert "Traceback" not in server.log
