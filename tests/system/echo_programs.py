"""Programs that are used as an echo, or in front of one, each started on a free loopback port."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path as File

import pytest

from tests.tls import make_certificate

__all__ = ["free_port", "in_front", "ncat", "socat", "streams_echo", "wire_echo"]

_WIRE_ECHO = """
import sys
from twisted.internet import protocol, reactor
from twisted.protocols.wire import Echo
reactor.listenTCP(int(sys.argv[1]), protocol.Factory.forProtocol(Echo), interface="127.0.0.1")
reactor.run()
"""

_STREAMS_ECHO = """
import asyncio, sys

async def echo(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
    except ConnectionError:
        pass

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]), backlog=512)
    await server.serve_forever()

asyncio.run(main())
"""

_HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen echo
    bind {front}
    server echo {behind}
"""

_NGINX = """
load_module {module};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
stream {{
    server {{
        listen {front} backlog=512;
        proxy_pass {behind};
        {more}
    }}
}}
"""

_STUNNEL = """
foreground = yes
pid =
[echo]
accept = {front}
connect = {behind}
cert = {folder}/stunnel.pem
"""

# Some programs are installed where only root looks.
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def _started(*command: str, port: int) -> Iterator[int]:
    """Run a server to the end of the block; yield its port once it listens."""
    if (found := shutil.which(command[0], path=_PATH)) is None:
        pytest.skip(f"needs {command[0]}, a Debian package")
    # In a process group of its own: some leave a process for each client behind.
    with subprocess.Popen(
        [found, *command[1:]],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            until = time.monotonic() + 20
            while True:
                assert process.poll() is None, f"{command[0]} ended"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                assert time.monotonic() < until, f"{command[0]} does not listen"
                time.sleep(0.025)
            yield port
        finally:
            os.killpg(process.pid, signal.SIGKILL)


# Echoes by themselves.


@contextlib.contextmanager
def wire_echo() -> Iterator[int]:
    """Twisted's own echo."""
    port = free_port()
    with _started(sys.executable, "-c", _WIRE_ECHO, str(port), port=port):
        yield port


@contextlib.contextmanager
def streams_echo() -> Iterator[int]:
    """An echo of asyncio streams, which is correct."""
    port = free_port()
    with _started(sys.executable, "-c", _STREAMS_ECHO, str(port), port=port):
        yield port


@contextlib.contextmanager
def ncat() -> Iterator[int]:
    """ncat with cat behind it."""
    port = free_port()
    with _started("ncat", "-l", "-k", "-e", "/bin/cat", "127.0.0.1", str(port), port=port):
        yield port


@contextlib.contextmanager
def socat() -> Iterator[int]:
    """socat with a pipe behind it."""
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=512"
    with _started("socat", listen, "PIPE", port=port):
        yield port


# Programs in front of a correct echo: the command from the two addresses and a folder for files.


def _haproxy(front: str, behind: str, folder: File) -> list[str]:
    (folder / "haproxy.cfg").write_text(_HAPROXY.format(front=front, behind=behind))
    return ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]


def _nginx(front: str, behind: str, folder: File, more: str = "") -> list[str]:
    module = File("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.exists():
        pytest.skip("needs libnginx-mod-stream, a Debian package")
    text = _NGINX.format(module=module, folder=folder, front=front, behind=behind, more=more)
    (folder / "nginx.conf").write_text(text)
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def _rinetd(front: str, behind: str, folder: File) -> list[str]:
    line = f"{front} {behind}\n".replace(":", " ")
    (folder / "rinetd.conf").write_text(line)
    return ["rinetd", "-f", "-c", str(folder / "rinetd.conf")]


def _stunnel(front: str, behind: str, folder: File) -> list[str]:
    make_certificate(folder / "stunnel.pem")
    (folder / "stunnel.conf").write_text(_STUNNEL.format(front=front, behind=behind, folder=folder))
    return ["stunnel4", str(folder / "stunnel.conf")]


_Command = Callable[[str, str, File], list[str]]

_IN_FRONT: dict[str, _Command] = {
    "6tunnel": lambda front, behind, _: (
        ["6tunnel", "-4", "-d", "-l", *f"{front}:{behind}".split(":")]
    ),
    "haproxy": _haproxy,
    "nginx": _nginx,
    "nginx with proxy_half_close": lambda front, behind, folder: _nginx(
        front, behind, folder, "proxy_half_close on;"
    ),
    "pen": lambda front, behind, _: ["pen", "-f", front, behind],
    "redir": lambda front, behind, _: ["redir", "-n", front, behind],
    "rinetd": _rinetd,
    "simpleproxy": lambda front, behind, _: ["simpleproxy", "-L", front, "-R", behind],
    "sslh": lambda front, behind, _: (
        ["sslh", "--foreground", "--listen", front, "--anyprot", behind]
    ),
    "sslh --ssh": lambda front, behind, _: (
        ["sslh", "--foreground", "--listen", front, "--ssh", behind]
    ),
    "stunnel": _stunnel,
    "websockify": lambda front, behind, _: ["websockify", front, behind],
}


@contextlib.contextmanager
def in_front(name: str, folder: File) -> Iterator[int]:
    """Run a program in front of a correct echo.

    Args:
        name: of the program.
        folder: for its files.
    """
    port = free_port()
    with streams_echo() as behind:
        command = _IN_FRONT[name](f"127.0.0.1:{port}", f"127.0.0.1:{behind}", folder)
        with _started(*command, port=port):
            yield port
