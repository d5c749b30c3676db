"""The code blocks of the pages under docs/, and how each of them is run.

A block whose language is in :data:`RUN` is run as it stands, in a folder and a
network of its own. A comment right before it says what it needs::

    .. run: with server, exit 1

    .. code-block:: console

       $ echoproto ping -c 1 127.0.0.1:9998

========================  ==========================================================
``with server OPTIONS``   our own server listens on 127.0.0.1:9999
``with balancer``         our own server listens on balancer.example:7
``continues``             in the same folder and network, right after the block before
``saves NAME``            the block is a file, which a block that continues uses
``serves ADDRESS``        the command goes on until it is stopped, and echoes there
``exit N``                the last command ends with this code, not with 0
``short LONG => SHORT``   the command takes long: try it with this in place of that
``exactly``               what is printed is what is shown, numbers included
``roughly``               only the first and the last line are compared: what is between
                          is a matter of timing
``in project``            in a checkout of the project, not in an empty folder
``installs``              in a copy of the project, with a new environment and the
                          network of this machine
========================  ==========================================================

In ``console`` blocks ``$`` is the prompt of a user and ``#`` that of root. What is
shown below a command is what it prints, but for numbers; a line ``...`` stands for
any lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
RUN = {"bash", "console", "python"}
SHOWN = {"docker", "haproxy", "html", "ini", "json", "text", "toml", "yaml"}

WORDS = {
    "continues": False,
    "exactly": False,
    "exit": True,
    "in project": False,
    "installs": False,
    "roughly": False,
    "saves": True,
    "serves": True,
    "short": True,
    "with balancer": False,
    "with server": None,
}

_DIRECTIVE = re.compile(r"( *)\.\. (code-block|code|sourcecode|parsed-literal|prompt):: *(.*)")


@dataclass
class Block:
    """One block of code.

    :ivar how: what the comment before it says, by word.
    """

    page: str
    line: int
    language: str
    text: str
    how: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


def how(text: str, place: str) -> dict[str, str]:
    """Parse what a ``.. run:`` comment says."""
    said = {}
    for part in text.split(", "):
        words = [each for each in WORDS if f"{part} ".startswith(f"{each} ")]
        assert words, f"{place}: unknown way to run a block: {part!r}"
        word = words[0]
        value = part[len(word) :].strip()
        assert WORDS[word] is None or WORDS[word] == bool(value), f"{place}: {part!r}"
        said[word] = value
    return said


def blocks(text: str, page: str) -> list[Block]:
    """Return every block of a page that is run.

    :raises AssertionError: where it is not certain what a block is.
    """
    lines = text.splitlines()
    found: list[Block] = []
    comment = ""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        place = f"{page}:{number}"
        if line.strip().startswith(".. run:"):
            assert not comment, f"{place}: the comment before belongs to no block"
            comment = line.partition(".. run:")[2].strip()
            continue
        directive = _DIRECTIVE.fullmatch(line)
        if directive is None:
            assert not (line.endswith("::") and not line.strip().startswith(".. ")), (
                f"{place}: a block without a language: write '.. code-block:: text', "
                "or the language that it is in"
            )
            assert not re.match(r" *>>> ", line), f"{place}: write '.. code-block:: python'"
            assert not (line.strip() and comment), f"{place}: what is to be run here?"
            continue
        indent, language = len(directive[1]), directive[3]
        at = number
        content, number = _content(lines, number, indent)
        if language in RUN:
            found.append(Block(page, at, language, content, how(comment, place) if comment else {}))
        else:
            assert language in SHOWN, f"{place}: is a block in {language!r} run or shown?"
            assert not comment, f"{place}: a block in {language!r} is not run"
        comment = ""
    assert not comment, f"{page}: what is to be run in the end?"
    return found


def _content(lines: list[str], number: int, indent: int) -> tuple[str, int]:
    """Return the content of a directive, and the number of its last line."""
    content: list[str] = []
    while number < len(lines):
        line = lines[number]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        content.append(line)
        number += 1
    while content and (not content[0].strip() or re.match(r" +:[\w-]+:", content[0])):
        content.pop(0)
    depth = min(len(line) - len(line.lstrip()) for line in content if line.strip())
    return "\n".join(line[depth:] for line in content).rstrip() + "\n", number


def pages() -> dict[str, str]:
    """The text of each page, by its path under docs/."""
    found = {str(path.relative_to(DOCS)): path.read_text() for path in sorted(DOCS.rglob("*.rst"))}
    return {page: text for page, text in found.items() if not page.startswith("_build")}


def groups(text: str, page: str) -> list[list[Block]]:
    """All blocks of a page that are run; those that continue one are in its group."""
    found: list[list[Block]] = []
    for block in blocks(text, page):
        if "continues" in block.how:
            assert found, f"{block.name} continues nothing"
            found[-1].append(block)
        else:
            found.append([block])
    return found


def included(text: str) -> list[str]:
    """The files that a page shows whole."""
    return re.findall(r"(?m)^ *\.\. literalinclude:: (\S+)", text)


@dataclass
class Typed:
    """One command of a console block, and what is shown below it."""

    command: str
    shown: list[str]


def typed(text: str) -> list[Typed]:
    """Split a console block into commands."""
    found: list[Typed] = []
    goes_on = False
    for line in text.rstrip().splitlines():
        if goes_on:
            found[-1].command += "\n" + line.removeprefix("> ")
        elif line.startswith(("$ ", "# ")):
            found.append(Typed(line[2:], []))
        else:
            assert found, f"no prompt before {line!r}"
            found[-1].shown.append(line)
            continue
        goes_on = line.endswith("\\")
    return found
