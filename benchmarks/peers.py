"""The peers: how each is started, and what it requires."""

import importlib.util
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.build import HERE, certificate, compiled, compiler_missing
from benchmarks.processes import Server
from benchmarks.works import Work


@dataclass(frozen=True)
class Peer:
    """
    An echo server to measure.

    Attributes:
        name: its name on the command line and in the tables.
        title: a description.
        command: returns a command that listens on a free port of 127.0.0.1 and prints it; None if
            it serves TLS only.
        missing: returns what is missing to run it here; None if nothing is.
        cannot: returns why it cannot run a workload; None if it can.
        tls_command: returns the same command for TLS, given the file with key and certificate;
            None if it is not measured with TLS.
    """

    name: str
    title: str
    command: Callable[[], list[str]] | None
    missing: Callable[[], str | None]
    cannot: Callable[[Work], str | None] = lambda work: None
    tls_command: Callable[[str], list[str]] | None = None

    def unable(self, work: Work) -> str | None:
        """Return why it cannot run a workload; None if it can."""
        if work.tls and self.tls_command is None:
            return "it is not measured with TLS"
        if not work.tls and self.command is None:
            return "it serves TLS only"
        return self.cannot(work)

    def start(self, core: int | None, tls: bool = False) -> Server:
        """
        Start it on `core`, or on any if that is None. The caller waits until it listens.

        Arguments:
            tls: whether it serves TLS; see `unable`.

        Raises:
            BuildError: it cannot be compiled, or the certificate cannot be made.
        """
        if tls:
            assert self.tls_command is not None
            command = self.tls_command(str(certificate()))
        else:
            assert self.command is not None
            command = self.command()
        # It runs in another directory, with the code of this checkout.
        return Server(self.name, command, {"PYTHONPATH": str(HERE.parent)}, core)


def twistd(*options: str, pem: str | None = None) -> list[str]:
    """Return a command that runs the server of this checkout, with TLS if `pem` is given."""
    run = "from twisted.scripts.twistd import run; run()"
    listen = ("--listen", f"ssl:0:privateKey={pem}:interface=127.0.0.1") if pem else ("--port", "0")
    return [sys.executable, "-c", run, "-n", "--pidfile=", "echo", *listen, *options]


def _script(name: str, *options: str) -> list[str]:
    return [sys.executable, str(HERE / "servers" / name), *options]


def _ours_missing(option: str | None = None) -> str | None:
    if importlib.util.find_spec("echoproto.command.tap") is None:
        return "echoproto.command.tap, the server, is not in this checkout"
    from echoproto.command.tap import Options

    if option and option not in Options():
        return f"twistd echo has no option --{option} in this checkout"
    return None


def _module_missing(module: str) -> str | None:
    if importlib.util.find_spec(module):
        return None
    return f"{module} is not installed: pip install 'echoproto[bench]'"


def _program_missing(program: str) -> str | None:
    return None if shutil.which(program) else f"{program} is not installed"


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def _forks(work: Work) -> str | None:
    """Return why a server that forks for each connection cannot run a workload."""
    connections = work.connections + work.idle
    return f"no {connections:,} processes are started" if connections > 100 else None


def _splice_cannot(work: Work) -> str | None:
    """Return why a server with a pipe for each connection cannot run a workload."""
    connections = work.connections + work.idle
    return f"no {connections:,} pipes are opened" if connections > 1000 else None


def _ncat_cannot(work: Work) -> str | None:
    if work.size > 65536:
        return "it stops reading while it writes, so large messages block for ever"
    if work.mode == "accept" and work.connections > 10:
        return f"its accept queue holds 10, and {work.connections} connect at once"
    return _forks(work)


PEERS = (
    Peer(
        "ours",
        "echoproto: twistd echo",
        twistd,
        _ours_missing,
        tls_command=lambda pem: twistd(pem=pem),
    ),
    Peer(
        "ours-stock-lane",
        "echoproto without its fast lane: twistd echo --lane stock",
        lambda: twistd("--lane", "stock"),
        lambda: _ours_missing("lane"),
        tls_command=lambda pem: twistd("--lane", "stock", pem=pem),
    ),
    Peer(
        "twisted",
        "Twisted's wire.Echo on its epoll reactor",
        lambda: _script("twisted_stock.py"),
        lambda: None,
        tls_command=lambda pem: _script("twisted_stock.py", pem),
    ),
    Peer(
        "asyncio-protocol",
        "asyncio, a Protocol",
        lambda: _script("asyncio_echo.py", "asyncio", "protocol"),
        lambda: None,
        tls_command=lambda pem: _script("asyncio_echo.py", "asyncio", "protocol", pem),
    ),
    Peer(
        "asyncio-streams",
        "asyncio, streams",
        lambda: _script("asyncio_echo.py", "asyncio", "streams"),
        lambda: None,
        tls_command=lambda pem: _script("asyncio_echo.py", "asyncio", "streams", pem),
    ),
    Peer(
        "uvloop-protocol",
        "uvloop, a Protocol",
        lambda: _script("asyncio_echo.py", "uvloop", "protocol"),
        lambda: _module_missing("uvloop"),
        tls_command=lambda pem: _script("asyncio_echo.py", "uvloop", "protocol", pem),
    ),
    Peer(
        "uvloop-streams",
        "uvloop, streams",
        lambda: _script("asyncio_echo.py", "uvloop", "streams"),
        lambda: _module_missing("uvloop"),
        tls_command=lambda pem: _script("asyncio_echo.py", "uvloop", "streams", pem),
    ),
    Peer(
        "trio",
        "trio, SocketStream",
        lambda: _script("trio_echo.py"),
        lambda: _module_missing("trio"),
    ),
    Peer(
        "c-epoll",
        "C, one epoll set: the limit",
        lambda: [str(compiled("servers/echo_epoll.c"))],
        lambda: compiler_missing("servers/echo_epoll.c"),
    ),
    Peer(
        "c-splice",
        "C, splice(2) through a pipe: the limit in bulk",
        lambda: [str(compiled("servers/echo_splice.c"))],
        lambda: compiler_missing("servers/echo_splice.c"),
        _splice_cannot,
    ),
    Peer(
        "python-epoll",
        "epoll, os.read and os.write, or ssl, in Python: the interpreter's floor",
        lambda: _script("python_epoll.py"),
        lambda: None,
        lambda work: "it is for small messages" if work.tls and work.mode == "stream" else None,
        tls_command=lambda pem: _script("python_tls.py", pem),
    ),
    Peer(
        "go",
        "Go, package net",
        lambda: [str(compiled("servers/echo.go"))],
        lambda: compiler_missing("servers/echo.go"),
    ),
    Peer(
        "socat",
        "socat TCP4-LISTEN,fork PIPE",
        lambda: [
            *("socat", "-d", "-d"),  # without these it does not print its port
            "TCP4-LISTEN:0,bind=127.0.0.1,fork,backlog=4096,nodelay",
            "PIPE",
        ],
        lambda: _program_missing("socat"),
        _forks,
    ),
    Peer(
        "stunnel",
        "stunnel in front of C, one epoll set",
        None,
        lambda: _program_missing("stunnel") or compiler_missing("servers/echo_epoll.c"),
        tls_command=lambda pem: _script(
            "stunnel_echo.py", str(compiled("servers/echo_epoll.c")), pem
        ),
    ),
    Peer(
        "ncat",
        "ncat --exec /bin/cat",
        lambda: [
            *("ncat", "-v", "-4", "--listen", "--keep-open", "--max-conns", "1000"),
            *("--exec", "/bin/cat", "127.0.0.1", _free_port()),
        ],
        lambda: _program_missing("ncat"),
        _ncat_cannot,
    ),
)
