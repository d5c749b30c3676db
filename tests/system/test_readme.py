"""What README.rst shows is what happens."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from echoproto.command.tap import Options
from echoproto.core.connection_log import LogDetail
from tests.system.server import BIN, PATIENCE, Server, running, say

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.rst").read_text()

needs_client = pytest.mark.skipif(
    not (shutil.which("ncat") and shutil.which("ss")), reason="needs ncat and ss (iproute2)"
)


def blocks(language: str, text: str = README) -> list[str]:
    """The code blocks of a language, without their indentation."""
    found = re.findall(rf"\.\. code-block:: {language}\n\n((?:   .*\n|\n)+)", text)
    return ["\n".join(line[3:] for line in block.splitlines()).strip() for block in found]


def session(name: str) -> str:
    part = README.partition(f".. session {name}\n")[2].partition(".. session end")[0]
    (block,) = blocks("console", part)
    return block


def shape(text: str) -> list[str]:
    """The lines of a text but for numbers, spaces, and where Python is."""
    text = re.sub(r"\(\S+/python\S* [\d.]+\)", "(python)", text)
    text = re.sub(r"\d+(?:[.:T+-]+\d+)*", "#", text)
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def matches(shown: list[str], printed: str) -> bool:
    """Whether a text is what is shown, but for numbers, and for what '...' stands for."""
    parts = [
        r"(?:[^\n]*\n)*?" if line == "..." else re.escape(line) + r"\n"
        for line in shape("\n".join(shown))
    ]
    text = "".join(f"{line}\n" for line in shape(printed))
    return re.fullmatch("".join(parts), text) is not None


def with_port(command: str, port: int) -> str:
    assert "9999" in command
    return command.replace("9999", str(port))


@needs_client
def test_the_session(tmp_path: Path) -> None:
    command, _, log = session("server").partition("\n")
    words = with_port(command, 0).removeprefix("$ .venv/bin/").split()
    words.insert(2, "--pidfile=")
    with running([str(BIN / words[0]), *words[1:]], cwd=tmp_path) as server:
        assert shape(hold_client_session(server, tmp_path)) == shape(session("client"))
        # Each conversation is logged as closed before the last line of the client's part.
        server.wait_for(r"(?s)closed .*closed ")
        server.signal(signal.SIGINT)
        assert server.wait() in (-signal.SIGINT, 130)
        expected = shape(log)
        expected.remove("^C")
        assert shape(server.log) == expected


def hold_client_session(server: Server, directory: Path) -> str:
    """Type the commands of the client's terminal; return them with what they print."""
    shown = []
    for line in session("client").splitlines():
        if not line.startswith("$ "):
            continue
        done = subprocess.run(
            ["bash", "-c", with_port(line[2:], server.port) if "9999" in line else line[2:]],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert (done.returncode, done.stderr) == (0, "")
        shown.append(f"{line}\n{done.stdout}")
    return "\n".join(shown)


def test_the_option_table_is_what_the_options_are() -> None:
    table = (PROJECT / "docs" / "options.rst").read_text()
    rows = re.findall(r"\* - (``--.*)\n     - (.*)\n     - (.*(?:\n       .*)*)", table)
    defaults: dict[str, Any] = Options()
    told = {}
    for names, default, _ in rows:
        told[re.findall(r"--([\w-]+)", names)[0]] = default.strip("`")
    shown = {
        **{name: str(value) for name, value in defaults.items()},
        "port": "9999",
        "interface": "127.0.0.1",
        "listen": "none",
        "proxy-from": "loopback",
        "status": "nowhere",
        "status-host": "none",
        "tls-client-ca": "none",
        "tls-min-version": "1.2",
        "reuse-address": "on",
        "reuse-port": "off",
    }
    assert told == shown
    shorts = dict(re.findall(r"``--([\w-]+)``, ``-(\w)``", table))
    parameters: Any = Options.optParameters
    assert shorts == {row[0]: row[1] for row in parameters if row[1]}
    (details,) = (meaning for names, _, meaning in rows if names == "``--log``")
    assert set(re.findall(r"``(\w+)``[;, ]", details)) >= {each.value for each in LogDetail}


def test_the_tac_serves(tmp_path: Path) -> None:
    code = next(block for block in blocks("python") if "application =" in block)
    tac = tmp_path / "echo.tac"
    tac.write_text(with_port(code, 0))
    with running([str(BIN / "twistd"), "--pidfile=", "-ny", str(tac)], cwd=tmp_path) as server:
        with server.connect() as client:
            assert say(client, b"data") == b"data"
        server.wait_for("closed 127.0.0.1:.*: 4 bytes")


def test_the_client_asks(shared_server: Server) -> None:
    code = next(block for block in blocks("python") if "await echo" in block)
    done = subprocess.run(
        [sys.executable, "-c", with_port(code, shared_server.port)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (done.returncode, done.stdout) == (0, "4000000 bytes came back\n"), done.stderr


def typed(line: str, old: str, new: str, directory: Path) -> str:
    """Type a line of a session, with another port; return what it prints."""
    words = shlex.split(line.removeprefix("$ .venv/bin/").replace(old, new))
    done = subprocess.run(
        [str(BIN / words[0]), *words[1:]],
        cwd=directory,
        capture_output=True,
        text=True,
        # The longest takes 6 s on a quiet machine.
        timeout=3 * PATIENCE,
    )
    return done.stdout + done.stderr


def test_the_probe_finds_nothing_where_nothing_is(shared_server: Server, tmp_path: Path) -> None:
    line, *shown = session("probe").splitlines()
    port = str(shared_server.port)
    printed, expected = shape(typed(line, "9999", port, tmp_path)), shape("\n".join(shown))
    # How many silences the run is long enough for depends on the machine, and whether it takes
    # the 10 s after which its progress is printed.
    printed, expected = (
        [line for line in lines if not re.match(r"not tried: |(catalogue|fuzz): # of # ", line)]
        for lines in (printed, expected)
    )
    assert printed == expected


def test_the_probe_finds_what_the_relay_breaks(tmp_path: Path) -> None:
    _, relay, *logged = session("relay").splitlines()
    line, *shown = session("broken").splitlines()
    words = relay.replace("9998", "0").removeprefix("$ .venv/bin/").split()
    with running([str(BIN / words[0]), *words[1:]], cwd=tmp_path) as path:
        printed = typed(line, "9998", str(path.port), tmp_path)
        # The id of a saved failure depends on the port.
        printed, expected = (
            re.sub("saved as [0-9a-f]+", "saved", text) for text in (printed, "\n".join(shown))
        )
        # A busy machine takes the 10 s after which progress is printed.
        printed = re.sub(r"(?m)^(catalogue|fuzz): \d+ of \d+ .*\n", "", printed)
        assert matches(expected.splitlines(), printed), printed
        path.signal(signal.SIGINT)
        assert path.wait() == 130
    assert matches(logged, path.log), path.log


def test_a_test_of_ones_own(shared_server: Server, tmp_path: Path) -> None:
    code = next(block for block in blocks("python") if "echo_target" in block)
    (tmp_path / "test_balancer.py").write_text(code)
    target = f"127.0.0.1:{shared_server.port}"
    printed = typed(f"pytest -q --echo-target {target} test_balancer.py", "", "", tmp_path)
    assert "1 passed" in printed


def test_ci_starts_with_the_test_command_of_the_readme() -> None:
    (command,) = (block for block in blocks("console") if block.endswith("pytest"))
    assert command == (
        "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
    )
    assert f"\n{command}\n" in (PROJECT / ".ci" / "run").read_text()


@pytest.mark.slow
@pytest.mark.waits
@pytest.mark.timeout(600)
def test_the_first_command_serves(tmp_path: Path) -> None:
    (command,) = (block for block in blocks("console") if "pip install . &&" in block)
    assert command == (
        "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/twistd -n echo --port 9999"
    )
    for part in ("pyproject.toml", "README.rst", "LICENSE"):
        shutil.copy(PROJECT / part, tmp_path / part)
    for part in ("echoproto", "twisted"):
        shutil.copytree(PROJECT / part, tmp_path / part)
    # exec, so that the process that is ended is the server.
    command = with_port(command, 0).replace("&& .venv/bin/twistd", "&& exec .venv/bin/twistd")
    with running(["bash", "-c", command], cwd=tmp_path) as server:
        server.wait_for("listening on ", timeout=300)
        with server.connect() as client:
            assert say(client, b"data") == b"data"


def test_it_is_strict_restructured_text() -> None:
    docutils = pytest.importorskip("docutils.core", reason="docutils comes with the extra 'dev'")
    docutils.publish_string(
        README, writer="html5", settings_overrides={"halt_level": 2, "report_level": 2}
    )
