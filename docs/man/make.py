"""Writes the manual page echoproto.1 from the commands, their options and their help.

``python docs/man/make.py`` writes it beside this file; the wheel installs it. ``--check`` writes
nothing and fails if the page is not that of the commands. The page names the hash of what it was
made from, since the roff that docutils writes differs between its versions.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import click

from echoproto.probe.cli.main import COMMANDS, cli, load

PAGE = Path(__file__).with_name("echoproto.1")

BEFORE = """
=========
echoproto
=========

------------------------------------------
find out what a network path does to bytes
------------------------------------------

:Manual section: 1
:Manual group: echoproto
"""

AFTER = """
EXIT STATUS
===========

0
    No failure, and no loss.
1
    A failure was found, or a ping was lost.
2
    Nothing could be tested: invalid arguments, no connection, not an echo.
130
    Interrupted with Ctrl-C; what was found so far is reported.

FILES
=====

*.echoproto/failures/*
    The saved failures, one text file for each. They belong to the target where they were found.
*~/.cache/echoproto/hypothesis/*
    What Hypothesis keeps for the next run. ``XDG_CACHE_HOME`` replaces ``~/.cache``.

EXAMPLES
========

Find out what a balancer does to bytes, and write a report::

    echoproto fuzz balancer.example:7 --html report.html

Run one conversation 100 times, and see how often it fails::

    echoproto replay balancer.example:7 'send 0d ff; fin' --times 100

Complete command lines in bash (zsh and fish: ``zsh_source``, ``fish_source``)::

    eval "$(_ECHOPROTO_COMPLETE=bash_source echoproto)"

SEE ALSO
========

**ping**\\ (8), RFC 862
"""


def source() -> str:
    """Return the page as reStructuredText."""
    context = click.Context(cli, info_name="echoproto", **cli.context_settings)
    lines = [BEFORE, *_heading("SYNOPSIS")]
    commands = {name: load(name) for name in sorted(COMMANDS)}
    for name, command in commands.items():
        lines.append(f"| {_usage(name, command)}")
    lines += ["", *_heading("DESCRIPTION"), *_help(cli.help)]
    lines += _options(cli, context)
    for name, command in commands.items():
        lines += [*_heading(name.upper()), _usage(name, command), "", *_help(command.help)]
        lines += _options(command, click.Context(command, info_name=name, parent=context))
    return "\n".join([*lines, AFTER])


def _heading(text: str) -> list[str]:
    return [text, "=" * len(text), ""]


def _usage(name: str, command: click.Command) -> str:
    arguments = [
        (parameter.name or "").upper() if parameter.required else f"[{parameter.name}]".upper()
        for parameter in command.params
        if isinstance(parameter, click.Argument)
    ]
    return " ".join(["**echoproto", f"{name}**", r"[*options*]", *arguments])


def _help(text: str | None) -> Iterator[str]:
    for paragraph in cleandoc(text or "").split("\n\n"):
        if paragraph.startswith("\b"):
            # click leaves the lines of such a paragraph as they are.
            yield "::"
            yield ""
            yield from (f"    {line}" for line in paragraph.splitlines()[1:])
        else:
            yield _escape(" ".join(paragraph.split()))
        yield ""


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            # Short ones first: click 8.1.0 keeps the names of --help in a set.
            names = sorted(parameter.opts, key=len)
            yield ", ".join(f"**{name}**" for name in names) + _value(parameter)
            yield f"    {_escape(' '.join((parameter.help or '').split()))}{_more(parameter)}"
            yield ""


def _value(option: click.Option) -> str:
    if option.is_flag:
        return ""
    if isinstance(option.type, click.Choice) and option.metavar is None:
        return f" {_escape('|'.join(map(str, option.type.choices)))}"
    return f" *{option.metavar or option.type.name.partition(' ')[0].upper()}*"


def _more(option: click.Option) -> str:
    """Return the default and the bounds of a value."""
    text = ""
    if isinstance(option.type, click.IntRange) and option.type.max is not None:
        text += f" Allowed: {option.type.min} to {option.type.max}."
    if option.show_default:
        text += f" Default: {option.default}."
    return text + (" May be repeated." if option.multiple else "")


def _escape(text: str) -> str:
    return re.sub(r"([\\*`|_])", r"\\\1", text)


def main() -> int:
    """Write the page, or check it; return the exit code."""
    text = source()
    made_from = f'.\\" made from {hashlib.sha256(text.encode()).hexdigest()}'
    if sys.argv[1:] == ["--check"]:
        if PAGE.exists() and made_from in PAGE.read_text(encoding="utf-8").splitlines():
            return 0
        print(f"{PAGE.name} is not up to date: run python docs/man/make.py", file=sys.stderr)
        return 1
    # Sphinx brings it, and the check does not need it.
    from docutils.core import publish_string  # type: ignore[import-untyped]
    from docutils.writers.manpage import Writer  # type: ignore[import-untyped]

    page = publish_string(
        text, writer=Writer(), settings_overrides={"output_encoding": "unicode", "halt_level": 2}
    )
    # The first line tells man(1) which preprocessors a page needs; it stays the first.
    first, rest = str(page).split("\n", 1)
    PAGE.write_text(f"{first}\n{made_from}\n{rest}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
