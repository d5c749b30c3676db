"""Options that several commands share, and the values that options take."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from echoproto.probe.script.catalogue import catalogue
from echoproto.probe.script.conversation import ConversationError, parse_payload
from echoproto.probe.wire.verdict import Fault

__all__ = [
    "INTERRUPTED",
    "KINDS",
    "TARGET_OPTIONS",
    "case_option",
    "number",
    "report_options",
    "target_options",
    "tokens",
]

INTERRUPTED = 130
"""The exit code after Ctrl-C."""

KINDS = [str(kind) for kind in Fault if kind is not Fault.NONE]
"""The values of ``--exclude``."""

TARGET_OPTIONS = ("ca", "cert", "key", "insecure", "server_name", "send_proxy")
"""The keyword arguments of :meth:`Target.parse`, each the value of an option."""

Command = Callable[..., Any]


def number(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """Return a finite number above zero; the interval may be zero.

    Raises:
        BadParameter: if it is not.
    """
    if value is None:
        return None
    zero = parameter.name == "interval"
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        allowed = "0 or more" if zero else "more than 0"
        raise click.BadParameter(f"{value!r}; must be a number, {allowed}")
    return number


def tokens(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return the bytes of each value.

    Raises:
        BadParameter: if one is not in hexadecimal, or empty.
    """
    try:
        parsed = tuple(map(parse_payload, values))
    except ConversationError as error:
        raise click.BadParameter(str(error)) from None
    if not all(parsed):
        raise click.BadParameter("'' is empty; must be bytes in hexadecimal, as 0d 0a")
    return parsed


def _cases(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    numbers = [case.number for case in catalogue()]
    for value in values:
        if value.upper() not in numbers:
            raise click.BadParameter(f"{value!r}; must be {numbers[0]} to {numbers[-1]}")
    return tuple(value.upper() for value in values)


def case_option(text: str) -> Callable[[Command], Command]:
    """Return the option ``--case``, with this help."""
    return click.option("--case", callback=_cases, multiple=True, metavar="NUMBER", help=text)


def target_options(command: Command) -> Command:
    """Add the options of every command that connects.

    The command gets ``options``, the keyword arguments of :meth:`Target.parse`.
    """

    @click.option("--ca", metavar="FILE", help="Trust the certificates in FILE (tls:).")
    @click.option("--cert", metavar="FILE", help="Present the certificate in FILE (tls:).")
    @click.option("--key", metavar="FILE", help="Its private key, if not in the same file.")
    @click.option("--insecure", is_flag=True, help="Accept any certificate (tls:).")
    @click.option("--server-name", metavar="NAME", help="Send and verify this name (tls:).")
    @click.option(
        "--send-proxy",
        type=click.Choice(["v1", "v2"]),
        help="Send a PROXY protocol header first.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        options = {name: kwargs.pop(name) for name in TARGET_OPTIONS}
        return command(*args, options=options, **kwargs)

    return wrapped


def report_options(command: Command) -> Command:
    """Add ``--html``, ``--junit`` and ``--jsonl``; each takes a path."""
    for name, what in (
        ("--jsonl", "each conversation and its verdict, one JSON object per line"),
        ("--junit", "JUnit XML, for a CI system"),
        ("--html", "one self-contained page"),
    ):
        command = click.option(
            name, type=click.Path(dir_okay=False, path_type=Path), help=f"Write {what}."
        )(command)
    return command
