"""What the probe finds in programs that are used as an echo, or in front of one.

Each test asserts a row of docs/findings.rst.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path as File
from typing import Any

import pytest

from echoproto.probe.script.conversation import Await, HalfClose, Send, Session, SlowRead
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.result import CampaignResult, Phase
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
stream {{
    server {{
        listen 127.0.0.1:{port} backlog=512;
        proxy_pass 127.0.0.1:{behind};
        {more}
    }}
}}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def started(*command: str, port: int) -> Iterator[int]:
    """Run a server to the end of the block; yield its port once it listens."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"needs {command[0]}, a Debian package")
    # In a process group of its own: ncat and socat leave a process for each client behind.
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
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
            os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def haproxy(behind: int, folder: File) -> Iterator[int]:
    port = free_port()
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, behind=behind))
    with started("haproxy", "-db", "-f", str(folder / "haproxy.cfg"), port=port):
        yield port


@contextlib.contextmanager
def nginx(behind: int, folder: File, more: str = "") -> Iterator[int]:
    module = File("/usr/lib/nginx/modules/ngx_stream_module.so")
    if not module.exists():
        pytest.skip("needs libnginx-mod-stream, a Debian package")
    port = free_port()
    text = NGINX.format(
        module=f"load_module {module};", folder=folder, port=port, behind=behind, more=more
    )
    (folder / "nginx.conf").write_text(text)
    with started("nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), port=port):
        yield port


@contextlib.contextmanager
def ncat() -> Iterator[int]:
    port = free_port()
    command = ("ncat", "-l", "-k", "-e", "/bin/cat", "127.0.0.1", str(port))
    with started(*command, port=port):
        yield port


@contextlib.contextmanager
def streams_echo() -> Iterator[int]:
    port = free_port()
    with started(sys.executable, "-c", STREAMS_ECHO, str(port), port=port):
        yield port


def campaign(port: int, folder: File, **settings: Any) -> CampaignResult:
    target = Target.parse(f"127.0.0.1:{port}")
    saved = SavedFailures(folder / "saved")
    # On loopback, 5 s of silence are enough to be sure.
    chosen = Settings(**{"seed": 1, "patience": 5, **settings})
    result = Campaign(target, chosen, None, saved).run()
    assert result.exit_code == bool(result.failures), result.error
    return result


def found(result: CampaignResult) -> dict[str, Fault]:
    """The shortest conversation of each failure, with its verdict."""
    return {str(failure.session): failure.kind for failure in result.failures}


def sent(text: str) -> int:
    """How many bytes a session of one conversation sends, which does nothing but send and wait.

    A failure in some runs only is not always shrunk to zeros.
    """
    (conversation,) = Session.parse(text).conversations
    steps = conversation.steps
    assert all(isinstance(step, (Send, Await, HalfClose, SlowRead)) for step in steps), text
    return sum(len(step.payload) for step in steps if isinstance(step, Send))


def test_stock_wire_echo_loses_what_a_fin_follows(tmp_path: File) -> None:
    port = free_port()
    with started(sys.executable, "-c", WIRE_ECHO, str(port), port=port):
        result = campaign(port, tmp_path)
    assert found(result) == {"send 00; fin": Fault.TRUNCATED}


def test_ncat_closes_at_fin_and_locks_up_in_bulk(tmp_path: File) -> None:
    with ncat() as port:
        result = campaign(port, tmp_path, examples=0, patience=3, explain=False)
    faults = found(result)
    assert faults["send 00; fin"] is Fault.TRUNCATED
    (failure,) = (f for f in result.failures if str(f.session) == "send 00; fin")
    assert not failure.flaky
    # The limit depends on the sizes of the kernel's buffers. A FIN has nothing to do with it.
    stalled = [session for session, kind in faults.items() if kind is Fault.STALLED]
    assert min(sent(session) for session in stalled) > 100_000
    assert not any("fin" in session for session in stalled)


def test_socat_locks_up_with_a_late_reader(tmp_path: File) -> None:
    port = free_port()
    listen = f"TCP-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,backlog=512"
    with started("socat", listen, "PIPE", port=port):
        # It locks up in most runs, but not in all.
        for _ in range(3):
            result = campaign(port, tmp_path, cases=("E-097",))
            if result.failures:
                break
    assert result.preflight is not None
    assert result.preflight.half_close
    assert set(found(result).values()) == {Fault.STALLED}
    assert min(sent(session) for session in found(result)) > 1_000_000


def test_an_asyncio_streams_echo_is_clean(tmp_path: File) -> None:
    with streams_echo() as port:
        assert_clean(campaign(port, tmp_path))


def test_haproxy_is_clean(tmp_path: File) -> None:
    with streams_echo() as behind, haproxy(behind, tmp_path) as port:
        assert_clean(campaign(port, tmp_path))


def assert_clean(result: CampaignResult) -> None:
    assert found(result) == {}
    assert result.counts[Phase.FUZZ] == 1000
    assert result.preflight is not None
    assert result.preflight.half_close


def test_nginx_does_not_forward_half_close(tmp_path: File) -> None:
    with streams_echo() as behind, nginx(behind, tmp_path) as port:
        result = campaign(port, tmp_path)
    assert result.preflight is not None
    assert not result.preflight.half_close
    assert found(result) == {"send 00; fin": Fault.TRUNCATED}
    # On a busy machine the byte is back sometimes, before nginx sees FIN.
    (failure,) = result.failures
    assert failure.reproduced > failure.runs / 2


def test_nginx_with_proxy_half_close_is_clean(tmp_path: File) -> None:
    with streams_echo() as behind, nginx(behind, tmp_path, "proxy_half_close on;") as port:
        assert_clean(campaign(port, tmp_path))
