"""Proxies, a WebSocket gateway and ssh as Debian has them, in front of a correct echo."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.search.preflight import preflight
from echoproto.probe.wire.first_connection import connect
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run, run_all
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Fault

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

LIMITS = Limits(stall=20, half_close=False)
SCRIPTS = [
    Session.parse("send 00..ff; await; send 00*70000; await"),
    Session.parse("send ff; await | send 0d 0a; await"),
]


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [name for name in programs if shutil.which(name, path=PATH) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"


@contextlib.contextmanager
def listening(*command: str, config: File | None = None) -> Iterator[int]:
    """Run a program that listens on the port that replaces ``PORT`` in its words, or its file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    if config is not None:
        config.write_text(config.read_text().replace("PORT", str(port)))
    words = [word.replace("PORT", str(port)) for word in command]
    words[0] = shutil.which(words[0], path=PATH) or words[0]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 20
            while True:
                with contextlib.suppress(OSError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.02)
            yield port
        finally:
            process.terminate()


def hold(target: Target) -> None:
    """Assert that an echo is found there, and returns everything; 20 connections at once too."""
    made, known = preflight(target)
    assert known.half_close is (target.half_closes and known.samples[0] * 2 >= known.samples[1])
    for outcome in [
        *(run(script, made, LIMITS) for script in SCRIPTS),
        *run_all([Conversation.parse("send 61*5000; await")] * 20, made, LIMITS),
    ]:
        assert outcome.ok, outcome.verdict.message


@needs("microsocks")
def test_microsocks(echo_port: int) -> None:
    with listening(
        "microsocks", "-i", "127.0.0.1", "-p", "PORT", "-u", "bob", "-P", "p@ss"
    ) as port:
        place = f"127.0.0.1:{port}"
        hold(Target.parse(f"127.0.0.1:{echo_port}", via=[f"socks5://bob:p%40ss@{place}"]))
        for user, complaint in (
            ("bob:wrong@", "it does not accept the user name and password"),
            ("", "it demands a user name and a password"),
        ):
            target = Target.parse(f"127.0.0.1:{echo_port}", via=[f"socks5://{user}{place}"])
            with pytest.raises(TargetError, match=complaint):
                connect(target)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            unused = listener.getsockname()[1]
        nothing = Target.parse(f"127.0.0.1:{unused}", via=[f"socks5://bob:p%40ss@{place}"])
        with pytest.raises(TargetError, match=f"it cannot connect to 127.0.0.1:{unused}: "):
            connect(nothing)


@needs("microsocks", "tinyproxy")
def test_tinyproxy_and_a_chain(echo_port: int, tmp_path: File) -> None:
    with contextlib.ExitStack() as stack:
        socks = stack.enter_context(listening("microsocks", "-i", "127.0.0.1", "-p", "PORT"))
        config = tmp_path / "conf"
        config.write_text(
            "Port PORT\nListen 127.0.0.1\nTimeout 60\nMaxClients 200\nBasicAuth bob sesame\n"
        )
        port = stack.enter_context(listening("tinyproxy", "-d", "-c", str(config), config=config))
        http = f"127.0.0.1:{port}"
        hold(Target.parse(f"127.0.0.1:{echo_port}", via=[f"http://bob:sesame@{http}"]))
        hold(
            Target.parse(
                f"localhost:{echo_port}",
                via=[f"socks5://localhost:{socks}", f"http://bob:sesame@{http}",
                     f"socks5://127.0.0.1:{socks}"],
            )
        )  # fmt: skip
        for user, complaint in (
            ("", r"it demands a user name and a password \(407 "),
            ("bob:wrong@", r"it does not accept the user name and password \(401 "),
        ):
            with pytest.raises(TargetError, match=complaint):
                connect(Target.parse(f"127.0.0.1:{echo_port}", via=[f"http://{user}{http}"]))


@needs("websockify")
def test_websockify(echo_port: int) -> None:
    with listening("websockify", "127.0.0.1:PORT", f"127.0.0.1:{echo_port}") as port:
        hold(Target.parse(f"ws://127.0.0.1:{port}/any?path"))


@needs("sshd", "ssh", "ssh-keygen")
def test_ssh(echo_port: int, tmp_path: File) -> None:
    if not File("/run/sshd").is_dir():
        try:
            File("/run/sshd").mkdir()  # sshd demands it
        except OSError:
            pytest.skip("needs /run/sshd")
    for name in ("host", "own"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)], check=True
        )
    (tmp_path / "conf").write_text(
        f"HostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/own.pub\nStrictModes no\n"
        "UsePAM no\nListenAddress 127.0.0.1\nPidFile none\nPermitRootLogin yes\nMaxStartups 100\n"
    )
    with listening("sshd", "-D", "-e", "-f", str(tmp_path / "conf"), "-p", "PORT") as port:
        ssh = (
            f"ssh -F none -p {port} -i {tmp_path}/own -o StrictHostKeyChecking=no -o LogLevel=ERROR"
            f" -o UserKnownHostsFile=/dev/null -o BatchMode=yes {getpass.getuser()}@127.0.0.1"
        )
        made = connect(Target.parse(f"exec:{ssh} -W 127.0.0.1:{echo_port}"))
        outcomes = [run(script, made, LIMITS) for script in SCRIPTS]
        on_pty = connect(Target.parse(f"exec:{ssh} -tt 'stty raw -echo; echo ready; cat',pty=1",
                                      skip_banner=True))  # fmt: skip
        outcomes.append(run(Conversation.parse("send 61 0d 62; await"), on_pty, LIMITS))
        for outcome in outcomes:
            assert outcome.ok, outcome.verdict.message
        (tmp_path / "own").unlink()
        refused = run(Conversation.parse("send 61; await"), made, LIMITS)
        assert refused.kind in (Fault.TRUNCATED, Fault.RESET)
        assert "ssh exited with code 255" in made.last_words()
        assert "Permission denied" in made.last_words()
