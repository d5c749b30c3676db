"""Options that several commands share, and the values that options take."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from echoproto.probe.script.payload import ConversationError, parse_payload
from echoproto.probe.wire.limits import CONNECT_TIMEOUT, PATIENCE
from echoproto.probe.wire.target_options import TARGET_OPTIONS
from echoproto.probe.wire.verdict import Fault

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = [
    "KINDS",
    "WholeNumber",
    "case_option",
    "complete_saved",
    "number",
    "report_options",
    "require",
    "target_options",
    "timing_options",
    "tokens",
]

KINDS = [str(kind) for kind in Fault if kind is not Fault.NONE]
"""The values of ``--exclude``."""

Command = Callable[..., Any]

# Not checked here, so that the message is that of the target; a shell completes names of files.
_FILE = click.Path()


def require(module: str) -> None:
    """Find a module of the extra without importing it.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    if find_spec(module) is None:
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)


class WholeNumber(click.IntRange):
    """A whole number within bounds; what is none is reported with these."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            int(value)
        except ValueError:
            bounds = f"at least {self.min}" if self.max is None else f"{self.min} to {self.max}"
            self.fail(f"{value!r}; must be a whole number, {bounds}", param, ctx)
        return int(super().convert(value, param, ctx))


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
        raise click.BadParameter("'' is empty; must be bytes, as 0d 0a or \"ab\"")
    return parsed


def _cases(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        return ()
    from echoproto.probe.script.catalogue import catalogue

    numbers = [case.number for case in catalogue()]
    for value in values:
        if value.upper() not in numbers:
            raise click.BadParameter(f"{value!r}; must be {numbers[0]} to {numbers[-1]}")
    return tuple(value.upper() for value in values)


def case_option(text: str) -> Callable[[Command], Command]:
    """Return the option ``--case``, with this help."""
    return click.option(
        "--case",
        callback=_cases,
        multiple=True,
        metavar="NUMBER",
        help=text,
        shell_complete=_complete_case,
    )


def _complete_case(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    from echoproto.probe.script.catalogue import catalogue

    return [
        CompletionItem(case.number, help=case.name)
        for case in catalogue()
        if case.number.startswith(begun.upper())
    ]


def complete_saved(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the ids of saved failures that begin so, for a shell."""
    from click.shell_completion import CompletionItem

    from echoproto.probe.search.failures import SavedFailures

    return [
        CompletionItem(saved.id, help=saved.comment)
        for saved in SavedFailures().load()[0]
        if saved.id.startswith(begun)
    ]


def target_options(command: Command) -> Command:
    """Add the options of every command that connects.

    The command gets ``options``, the keyword arguments of :meth:`Target.parse`.
    """

    @click.option("--ca", type=_FILE, metavar="FILE", help="Trust the certificates in FILE (tls:).")
    @click.option(
        "--cert", type=_FILE, metavar="FILE", help="Present the certificate in FILE (tls:)."
    )
    @click.option(
        "--key", type=_FILE, metavar="FILE", help="Its private key, if not in the same file."
    )
    @click.option("--insecure", is_flag=True, help="Accept any certificate (tls:).")
    @click.option("--server-name", metavar="NAME", help="Send and verify this name (tls:).")
    @click.option(
        "--send-proxy",
        type=click.Choice(["v1", "v2"]),
        help="Send a PROXY protocol header first.",
    )
    @click.option("-4", "four", is_flag=True, help="Use only IPv4 addresses of the host.")
    @click.option("-6", "six", is_flag=True, help="Use only IPv6 addresses of the host.")
    @click.option(
        "--via",
        multiple=True,
        metavar="URL",
        help="Connect through this proxy: socks5://USER:PASSWORD@HOST:PORT, or socks4:, http:, "
        "https:. Given again, the chain goes on to the next one.",
    )
    @click.option("--skip-banner", is_flag=True, help="Drop what the server sends first.")
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        four, six = kwargs.pop("four"), kwargs.pop("six")
        if four and six:
            raise click.UsageError("-4 and -6 exclude each other")
        kwargs["family"] = "4" if four else "6" if six else None
        options = {name: kwargs.pop(name) for name in TARGET_OPTIONS}
        return command(*args, options=options, **kwargs)

    return wrapped


def timing_options(command: Command) -> Command:
    """Add the options on how long to wait.

    The command gets ``timing``, keyword arguments of :func:`preflight` and :class:`Settings`.
    """

    @click.option(
        "--timeout",
        callback=number,
        metavar="S",
        help="Wait at least S seconds for an answer, whatever the round trip.",
    )
    @click.option(
        "--connect-timeout",
        callback=number,
        default=f"{CONNECT_TIMEOUT:g}",
        show_default=True,
        metavar="S",
        help="Seconds that connecting may take.",
    )
    @click.option(
        "--patience",
        callback=number,
        default=f"{PATIENCE:g}",
        show_default=True,
        metavar="S",
        help="Seconds of silence after which bytes are lost; before, they are late.",
    )
    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        names = ("timeout", "connect_timeout", "patience")
        timing = {name: kwargs.pop(name) for name in names}
        timing["timeout"] = timing["timeout"] or 0.0
        return command(*args, timing=timing, **kwargs)

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
