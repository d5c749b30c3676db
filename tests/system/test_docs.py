"""Every shell and Python block of the pages under docs/ does what it shows."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.system import docs_blocks
from tests.system.docs_blocks import DOCS, Block
from tests.system.network import Network, needs_network, network
from tests.system.server import BIN, Server, running
from tests.system.test_deploy import DEPLOY
from tests.system.test_examples import EXAMPLES
from tests.system.test_readme import PROJECT, matches

NEEDED = {
    "nstat": "iproute2",
    "ss": "iproute2",
    "ncat": "ncat",
    "openssl": "openssl",
    "haproxy": "haproxy",
    "systemctl": "systemd",
    "curl": "curl",
}


def parameters() -> list[ParameterSet]:
    """Each group of blocks; and for a page where they are not certain, what is wrong with it."""
    found = []
    for page, text in docs_blocks.pages().items():
        try:
            groups = docs_blocks.groups(text, page)
        except AssertionError as error:
            found.append(pytest.param(error, id=page))
            continue
        # Most start a process or several: they take too long for every run of the tests.
        marks = [pytest.mark.slow, pytest.mark.timeout(600)]
        found += [pytest.param(group, id=group[0].name, marks=marks) for group in groups]
    return found


@needs_network
@pytest.mark.parametrize("group", parameters())
def test_block(group: list[Block] | AssertionError, tmp_path: Path) -> None:
    if isinstance(group, AssertionError):
        raise group
    for program, package in NEEDED.items():
        if not shutil.which(program) and any(
            re.search(rf"(?m)(^[$#] |\| ){program}\b", block.text) for block in group
        ):
            pytest.skip(f"needs {program} ({package})")
    folder = tmp_path / "here"
    folder.mkdir()
    with network(folder, "balancer.example") as net, ExitStack() as servers:
        for number, block in enumerate(group):
            for server in needed(block, net, folder):
                servers.enter_context(server)
            if "saves" in block.how:
                name = block.how["saves"]
                assert any(name in later.text for later in group[number + 1 :])
                (folder / name).write_text(block.text)
            elif "serves" in block.how:
                serve(block, net, folder)
            elif block.language == "python":
                execute(block, net, folder)
            else:
                hold_session(block, net, folder)


def needed(block: Block, net: Network, folder: Path) -> Iterator[AbstractContextManager[Server]]:
    """The servers that a block needs."""
    if "with server" in block.how:
        options = block.how["with server"].split()
        yield listening(net, folder, "--port", "9999", *options)
    if "with balancer" in block.how:
        yield listening(net, folder, "--port", "7")


@contextmanager
def listening(net: Network, folder: Path, *options: str) -> Iterator[Server]:
    command = [str(BIN / "twistd"), "-n", "--pidfile=", "echo", *options]
    with running(net.command(*command), cwd=folder) as server:
        server.wait_for("listening on ")
        yield server


def environment(folder: Path) -> dict[str, str]:
    """What a reader's shell has after the installation."""
    # There is a systemctl, but no systemd that it could speak to.
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "HOME": str(folder),
        "SYSTEMD_OFFLINE": "1",
    }


def execute(block: Block, net: Network, folder: Path) -> None:
    """Run a Python block as a program."""
    (folder / "block.py").write_text(block.text)
    command = net.command(sys.executable, "block.py")
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == int(block.how.get("exit", "0")), done.stdout + done.stderr


def serve(block: Block, net: Network, folder: Path) -> None:
    """Run a command that serves, and see that it does."""
    (typed,) = docs_blocks.typed(block.text)
    command = net.command("bash", "-c", f"exec {typed.command}")
    with running(command, cwd=folder, env=environment(folder)) as server:
        try:
            until_it_echoes(block.how["serves"], net, server)
        finally:
            # Without -n it is a daemon by now, whose number is in a file.
            if (pidfile := folder / "twistd.pid").exists():
                os.kill(int(pidfile.read_text()), signal.SIGTERM)
            else:
                server.signal(signal.SIGTERM)
        server.wait()


def until_it_echoes(address: str, net: Network, server: Server) -> None:
    asked = net.command(str(BIN / "echoproto"), "ping", "-c", "1", address)
    end = time.monotonic() + 30
    while (done := subprocess.run(asked, capture_output=True, text=True)).returncode:
        assert time.monotonic() < end, done.stdout + done.stderr + server.log
        assert server.process.poll() in (None, 0), server.log
        time.sleep(0.1)


END = "@@ ended with"


def hold_session(block: Block, net: Network, folder: Path) -> None:
    """Type a console block into one shell, and compare what is shown with what is printed."""
    if block.language == "bash":
        commands = [docs_blocks.Typed(block.text, [])]
    else:
        commands = docs_blocks.typed(block.text)
    if "short" in block.how:
        long, short = block.how["short"].split(" => ")
        assert long in commands[-1].command
        commands[-1].command = commands[-1].command.replace(long, short)
    printed = type_in([each.command for each in commands], block, net, folder)
    assert len(printed) == len(commands), printed
    for typed, (text, code), last in zip(
        commands, printed, [*[False] * (len(commands) - 1), True], strict=True
    ):
        expected = int(block.how.get("exit", "0")) if last else 0
        assert code == expected, f"{typed.command}\n{text}"
        if any(line.strip() for line in typed.shown) and "short" not in block.how:
            assert alike(typed.shown, text, block), f"{typed.command}\n{text}"


def alike(shown: list[str], printed: str, block: Block) -> bool:
    """Whether a command has printed what the page shows, as closely as the page says."""
    if "exactly" in block.how:
        return [" ".join(line.split()) for line in shown] == [
            " ".join(line.split()) for line in printed.splitlines() if line.strip()
        ]
    if "roughly" in block.how:
        shown = [shown[0], "...", shown[-1]]
    return matches(shown, printed)


def type_in(commands: list[str], block: Block, net: Network, folder: Path) -> list[tuple[str, int]]:
    """Run commands in one shell; return what each prints, and its exit code."""
    lines = []
    if "in project" in block.how:
        lines.append(f"cd {PROJECT}")
    if "installs" in block.how:
        copy_project(folder / "project")
        lines.append(f"cd project && {sys.executable} -m venv .venv && . .venv/bin/activate")
        lines += writable("/opt", folder) + writable("/etc/systemd/system", folder)
    for command in commands:
        lines += [command, f'printf "\\n{END} %s\\n" $?']
    # What is left running in the background ends with the shell.
    lines.append("kill $(jobs -p) 2>/dev/null; wait")
    shell = ["bash", "-c", "\n".join(lines)]
    shell = ["unshare", "--mount", *shell] if "installs" in block.how else net.command(*shell)
    with running(shell, cwd=folder, env=environment(folder)) as session:
        session.wait(540)
        text = session.log
    found = re.findall(rf"(.*?){END} (\d+)(?:\n|$)", text, re.DOTALL)
    return [(printed, int(code)) for printed, code in found]


def writable(path: str, folder: Path) -> list[str]:
    """Commands after which all that is written to a folder of this machine is the test's alone."""
    if not Path(path).is_dir():
        return []
    own = folder / path.replace("/", "-")
    own.mkdir()
    lines = []
    for entry in Path(path).iterdir():
        if entry.is_dir() and not entry.is_symlink():
            (own / entry.name).mkdir()
            lines.append(f"mount --rbind '{entry}' '{own / entry.name}'")
    return [*lines, f"mount --rbind '{own}' '{path}'"]


def copy_project(goal: Path) -> None:
    ignore = shutil.ignore_patterns(".*", "__pycache__", "_build", "dropin.cache", "*.egg-info")
    shutil.copytree(PROJECT, goal, ignore=ignore)


def test_each_file_that_a_page_shows_is_tried() -> None:
    for page, text in docs_blocks.pages().items():
        for name in docs_blocks.included(text):
            # test_examples.py and test_deploy.py speak of each file in these.
            assert (DOCS / name).parent in (EXAMPLES, DEPLOY), f"{page} shows {name}"
    tried = (PROJECT / "tests" / "system" / "test_deploy.py").read_text()
    for file in DEPLOY.iterdir():
        assert f'"{file.name}"' in tried


def test_ci_installs_every_program_that_a_block_needs() -> None:
    packages = (PROJECT / ".ci" / "run").read_text().split()
    assert set(NEEDED.values()) <= set(packages)


# The collector itself


def test_a_block_is_found_with_how_it_is_run() -> None:
    text = """
Text.

.. run: with server --log chunks, exit 1

.. code-block:: console
   :caption: In a shell

   $ echoproto ping \\
       127.0.0.1:9998
   ...

More.
"""
    (block,) = docs_blocks.blocks(text, "page.rst")
    assert block.how == {"with server": "--log chunks", "exit": "1"}
    (typed,) = docs_blocks.typed(block.text)
    assert typed.command == "echoproto ping \\\n    127.0.0.1:9998"
    assert typed.shown == ["..."]


@pytest.mark.parametrize(
    "text",
    [
        "A block::\n\n    what is it?\n",
        ".. code-block:: klingon\n\n   nuqneH\n",
        ".. code-block::\n\n   nothing said\n",
        ".. run: by magic\n\n.. code-block:: console\n\n   $ true\n",
        ".. run: exit\n\n.. code-block:: console\n\n   $ true\n",
        ".. run: exactly\n\nNo block.\n",
        ".. run: exactly\n\n.. code-block:: text\n\n   $ true\n",
        ".. run: exactly\n",
        ">>> 1 + 1\n2\n",
    ],
)
def test_no_block_is_passed_over(text: str) -> None:
    with pytest.raises(AssertionError):
        docs_blocks.blocks(text, "page.rst")


def test_what_is_shown_has_to_be_printed() -> None:
    assert matches(["3 sent, 3 received"], "\n12 sent, 4 received\n\n")
    assert matches(["first", "...", "last"], "first\nx\ny\nlast\n")
    assert matches(["first", "...", "last"], "first\nlast\n")
    assert not matches(["first"], "first\nlast\n")
    assert not matches(["first", "..."], "last\n")
