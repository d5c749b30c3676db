"""What the probe finds in programs that people use as an echo, or in front of one.

docs/findings.rst tells the same for people.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.result import CampaignResult
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WIRE_ECHO = """
import sys
from twisted.internet import protocol, reactor
from twisted.protocols.wire import Echo
reactor.listenTCP(int(sys.argv[1]), protocol.Factory.forProtocol(Echo), interface="127.0.0.1")
reactor.run()
"""

STREAMS_ECHO = """
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

HAPROXY = """
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
listen echo
    bind 127.0.0.1:{port}
    server echo 127.0.0.1:{behind}
"""

NGINX = """
{module}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 512; }}
stream {{ server {{ listen 127.0.0.1:{port} backlog=512; proxy_pass 127.0.0.1:{behind}; }} }}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def started(*command: str, port: int) -> Iterator[int]:
    """Run a server to the end of the block; its port, once it listens."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}, a Debian package")
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(400):
                assert process.poll() is None, f"{command[0]} ended"
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                time.sleep(0.025)
            yield port
        finally:
            process.terminate()


@contextlib.contextmanager
def haproxy(behind: int, folder: File) -> Iterator[int]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, behind=behind))
    with started("haproxy", "-db", "-f", str(folder / "haproxy.cfg"), port=port):
        yield port


@contextlib.contextmanager
def nginx(behind: int, folder: File) -> Iterator[int]:
    module = File("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.exists():
        pytest.skip("needs libnginx-mod-stream, a Debian package")
    port = free_port()
    text = NGINX.format(module=f"load_module {module};", folder=folder, port=port, behind=behind)
    (folder / "nginx.conf").write_text(text)
    with started("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), port=port):
        yield port


@contextlib.contextmanager
def streams_echo() -> Iterator[int]:
    port = free_port()
    with started(sys.executable, "-c", STREAMS_ECHO, str(port), port=port):
        yield port


def campaign(port: int, folder: File) -> CampaignResult:
    target = Target.parse(f"127.0.0.1:{port}")
    return Campaign(target, Settings(seed=1), None, SavedFailures(folder / "saved")).run()


def test_stock_wire_echo_loses_what_a_fin_follows(tmp_path: File) -> None:
    port = free_port()
    with started(sys.executable, "-c", WIRE_ECHO, str(port), port=port):
        result = campaign(port, tmp_path)
    found = {str(failure.session): failure.kind for failure in result.failures}
    assert found["send 00; fin"] is Fault.TRUNCATED


def test_socat(tmp_path: File) -> None:
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=512"
    with started("socat", listen, "PIPE", port=port):
        result = campaign(port, tmp_path)
    assert result.error is None


def test_ncat(tmp_path: File) -> None:
    port = free_port()
    command = ("ncat", "-l", "-k", "-e", "/bin/cat", "127.0.0.1", str(port))
    with started(*command, port=port):
        result = campaign(port, tmp_path)
    assert result.error is None


def test_an_asyncio_streams_echo_is_right(tmp_path: File) -> None:
    with streams_echo() as port:
        result = campaign(port, tmp_path)
    assert result.failures == []
    assert result.error is None


def test_haproxy(tmp_path: File) -> None:
    with streams_echo() as behind, haproxy(behind, tmp_path) as port:
        result = campaign(port, tmp_path)
    assert result.error is None


def test_nginx(tmp_path: File) -> None:
    with streams_echo() as behind, nginx(behind, tmp_path) as port:
        result = campaign(port, tmp_path)
    assert result.error is None
