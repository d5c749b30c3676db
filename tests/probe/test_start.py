"""What each command imports: half a second passes for all of it, which no help is worth."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from echoproto.probe.cli.main import COMMANDS, load

#: Each is slow to import, and imports others.
SLOW = ("hypothesis", "rich", "importlib.metadata", "email", "json", "statistics", "twisted")

#: What the help and the version need nothing of.
PROBE = ("script", "wire", "search", "report")

SCRIPT = """
import sys
before = set(sys.modules)
from echoproto.__main__ import main
sys.argv = ["echoproto", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    print(ended.code, *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported(*args: str, code: int = 0) -> set[str]:
    """The modules that a command line imports, those of the interpreter's start left out."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *args], capture_output=True, text=True, check=True
    )
    ended, *modules = done.stderr.splitlines()[-1].split()
    assert ended == str(code), done
    return set(modules)


def probe(modules: set[str]) -> set[str]:
    """Those of the probe's modules that say, judge, search or tell something."""
    return {name for name in modules if name.split(".")[2:3] and name.split(".")[2] in PROBE}


def test_the_help_imports_no_command() -> None:
    modules = imported("--help")
    assert not modules & {*SLOW, "ssl", "socket"}
    assert not probe(modules)


def test_the_version_imports_only_what_finds_it() -> None:
    modules = imported("--version")
    assert not modules & (set(SLOW) - {"importlib.metadata", "email", "json"})
    assert "ssl" not in modules
    assert not probe(modules)


def test_ping_imports_only_what_it_needs(echo_port: int) -> None:
    modules = imported("ping", f"127.0.0.1:{echo_port}", "-c", "1")
    assert not modules & (set(SLOW) - {"json"})
    assert not modules & {"echoproto.probe.script.catalogue", "echoproto.probe.search.campaign"}


def test_replay_imports_only_what_it_needs(echo_port: int) -> None:
    modules = imported("replay", f"127.0.0.1:{echo_port}", "send 00", "--times", "1")
    assert not modules & set(SLOW)
    assert not modules & {"echoproto.probe.script.catalogue", "echoproto.probe.search.campaign"}


def test_fuzz_imports_hypothesis_only_to_draw() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        modules = imported("fuzz", f"127.0.0.1:{unused.getsockname()[1]}", code=2)
    assert "rich" in modules  # which tells why it cannot test
    assert not modules & {"hypothesis", "importlib.metadata", "twisted"}
    assert "echoproto.probe.script.strategies" not in modules


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_help_that_the_group_shows(name: str) -> None:
    command = load(name)
    assert command.name == name
    assert command.get_short_help_str(100) == COMMANDS[name][1]
