"""The command line: ``echoproto fuzz | replay | catalogue | ping``.

Exit codes: 0 clean, 1 failure found (or loss), 2 could not test, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
import re
import secrets
import shlex
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console

from echoproto.probe.report.describe import describe, shorten
from echoproto.probe.report.html import write_html
from echoproto.probe.report.terminal import JsonLines, Observers, Terminal, write_junit
from echoproto.probe.script.catalogue import Case, catalogue
from echoproto.probe.script.conversation import ConversationError, Session, parse_payload
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.failures import SavedFailure, SavedFailures, SavedFailuresError
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.preflight import check_echo, preflight
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.channel import LocalError, connect, place
from echoproto.probe.wire.ping import Reply, Statistics, pings
from echoproto.probe.wire.run import run as run_session
from echoproto.probe.wire.target import Target, TargetError
from echoproto.probe.wire.verdict import Fault

__all__ = ["cli", "main"]

INTERRUPTED = 130

Command = Callable[..., Any]


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line and say what went wrong in one line.

    Args:
        args: the words after the program's name; None for those of this process.

    Returns:
        the exit code.
    """
    try:
        code = cli.main(args=args, prog_name="echoproto", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        return _fail(error.format_message())
    except (TargetError, LocalError, SavedFailuresError, ConversationError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has gone (``| head``); the interpreter must not try to flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _fail(message: str) -> int:
    print(f"echoproto: {' '.join(message.split())}", file=sys.stderr)
    return 2


# What the options take.


def _number(_: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """A finite number above zero; from zero on for the interval."""
    if value is None:
        return None
    zero = parameter.name == "interval"
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        allowed = "0 or more" if zero else "more than 0"
        raise click.BadParameter(f"{value!r}; allowed are numbers, {allowed}")
    return number


def _tokens(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[bytes, ...]:
    try:
        tokens = tuple(map(parse_payload, values))
    except ConversationError as error:
        raise click.BadParameter(str(error)) from None
    if not all(tokens):
        raise click.BadParameter("'' is no token; allowed are bytes in hexadecimal: 0d 0a")
    return tokens


def _cases(_: click.Context, __: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    numbers = [case.number for case in catalogue()]
    for value in values:
        if value.upper() not in numbers:
            raise click.BadParameter(f"{value!r}; allowed are {numbers[0]} to {numbers[-1]}")
    return tuple(value.upper() for value in values)


_KINDS = [str(kind) for kind in Fault if kind is not Fault.NONE]


def _target_options(command: Command) -> Command:
    """The options of every command that connects; the command gets ``options`` for
    :meth:`Target.parse`."""

    @click.option("--ca", metavar="FILE", help="Trust the certificates in FILE (tls:).")
    @click.option("--cert", metavar="FILE", help="Present the certificate in FILE (tls:).")
    @click.option("--key", metavar="FILE", help="Its private key, if not in the same file.")
    @click.option("--insecure", is_flag=True, help="Accept any certificate (tls:).")
    @click.option("--server-name", metavar="NAME", help="Send and check this name (tls:).")
    @click.option(
        "--send-proxy",
        type=click.Choice(["v1", "v2"]),
        help="Send a PROXY protocol header first.",
    )
    @functools.wraps(command)
    def wrapped(
        *args: Any,
        ca: str | None,
        cert: str | None,
        key: str | None,
        insecure: bool,
        server_name: str | None,
        send_proxy: str | None,
        **kwargs: Any,
    ) -> Any:
        options = {
            "ca": ca,
            "cert": cert,
            "key": key,
            "insecure": insecure,
            "server_name": server_name,
            "send_proxy": send_proxy,
        }
        return command(*args, options=options, **kwargs)

    return wrapped


def _report_options(command: Command) -> Command:
    for name, what in (
        ("--jsonl", "every conversation and verdict, a JSON object a line"),
        ("--junit", "JUnit XML, for a CI system"),
        ("--html", "one self-contained page"),
    ):
        command = click.option(
            name, type=click.Path(dir_okay=False, path_type=Path), help=f"Write {what}."
        )(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("echoproto"), message="echoproto %(version)s")
def cli() -> None:
    """Find out what a network path does to bytes.

    The path must end in an echo (RFC 862). TARGET is host:port, tls:host:port or unix:/path;
    IPv6 addresses stand in brackets.

    Exit codes: 0 clean, 1 failure found (or loss), 2 could not test, 130 interrupted.
    """


@cli.command()
@click.argument("target")
@click.option(
    "-n",
    "examples",
    type=click.IntRange(0, 10**7),
    default=1000,
    show_default=True,
    help="Conversations to draw.",
)
@click.option("--max-time", callback=_number, metavar="S", help="Stop after S seconds.")
@click.option("--seed", type=click.IntRange(0, 2**64 - 1), help="Draw the same again.")
@click.option("--no-shrink", is_flag=True, help="Report failures as they were found.")
@click.option(
    "--retries",
    type=click.IntRange(1, 10**5),
    default=100,
    show_default=True,
    metavar="K",
    help="Try a flaky failure again up to K times.",
)
@click.option("--rate", callback=_number, metavar="PER_S", help="Connections a second at most.")
@click.option(
    "--parallel",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    metavar="N",
    help="Connections at the same time at most.",
)
@click.option(
    "--exclude",
    type=click.Choice(_KINDS),
    multiple=True,
    metavar="KIND",
    help=f"Do not count this kind as a failure: {', '.join(_KINDS)}.",
)
@click.option(
    "--token",
    callback=_tokens,
    multiple=True,
    metavar="HEX",
    help="Bytes to draw more often: 0d 0a.",
)
@click.option(
    "--size",
    type=click.IntRange(1, 64 * 1024 * 1024),
    multiple=True,
    help="A payload size to draw more often, in bytes.",
)
@click.option(
    "--case", callback=_cases, multiple=True, metavar="NUMBER", help="Run only this case: E-017."
)
@click.option("--prune", is_flag=True, help="Delete the saved failures that pass now.")
@_report_options
@_target_options
def fuzz(
    target: str,
    options: dict[str, Any],
    examples: int,
    max_time: float | None,
    seed: int | None,
    no_shrink: bool,
    retries: int,
    rate: float | None,
    parallel: int,
    exclude: tuple[str, ...],
    token: tuple[bytes, ...],
    size: tuple[int, ...],
    case: tuple[str, ...],
    prune: bool,
    html: Path | None,
    junit: Path | None,
    jsonl: Path | None,
) -> int:
    """Hold conversations with TARGET, and shrink what fails.

    Replays the failures saved under .echoproto/failures/, then the catalogue, then draws
    conversations.
    """
    settings = Settings(
        examples=examples,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        max_time=max_time,
        shrink=not no_shrink,
        retries=retries,
        rate=rate,
        parallel=parallel,
        exclude=frozenset(map(Fault, exclude)),
        tokens=token,
        sizes=size,
        cases=case,
    )
    return _run_campaign(Target.parse(target, **options), settings, html, junit, jsonl, prune)


def _run_campaign(
    target: Target,
    settings: Settings,
    html: Path | None = None,
    junit: Path | None = None,
    jsonl: Path | None = None,
    prune: bool = False,
) -> int:
    console = Console(highlight=False)
    saved = SavedFailures()
    for option, path in (("--html", html), ("--junit", junit)):
        if path is not None:
            _open(option, path).close()
    with contextlib.ExitStack() as stack:
        terminal = stack.enter_context(Terminal(console))
        observers: list[Observer] = [terminal]
        lines = None
        if jsonl is not None:
            stream = stack.enter_context(_open("--jsonl", jsonl))
            observers.append(lines := JsonLines(stream, target.words, settings))
        campaign = Campaign(target, settings, Observers(observers), saved)
        campaign.result.command = _command(target, settings)
        result = campaign.run()
        if lines is not None:
            lines.end(result)
    terminal.summary(result)
    _write("--html", html, lambda path: write_html(result, path))
    _write("--junit", junit, lambda path: write_junit(result, path))
    if prune:
        for id_ in saved.prune():
            console.print(f"dropped saved failure {id_}", soft_wrap=True)
    return result.exit_code


def _open(option: str, path: Path) -> TextIO:
    try:
        return path.open("w", encoding="utf-8")
    except OSError as error:
        raise click.ClickException(
            f"{option} {path}: {error.strerror}; allowed is a file that can be written"
        ) from None


def _write(option: str, path: Path | None, write: Callable[[Path], None]) -> None:
    if path is None:
        return
    try:
        write(path)
    except OSError as error:
        raise click.ClickException(f"{option} {path}: {error.strerror}") from None


def _command(target: Target, settings: Settings) -> str:
    """The command line that does the same again."""
    words = ["echoproto", "fuzz", *target.words, "--seed", str(settings.seed)]
    standard = Settings()
    for option, name in (
        ("-n", "examples"),
        ("--max-time", "max_time"),
        ("--retries", "retries"),
        ("--rate", "rate"),
        ("--parallel", "parallel"),
    ):
        value = getattr(settings, name)
        if value != getattr(standard, name):
            words += [option, f"{value:g}" if isinstance(value, float) else str(value)]
    if not settings.shrink:
        words.append("--no-shrink")
    for option, values in (
        ("--exclude", sorted(map(str, settings.exclude))),
        ("--token", [token.hex(" ") for token in settings.tokens]),
        ("--size", map(str, settings.sizes)),
        ("--case", settings.cases),
    ):
        for value in values:
            words += [option, value]
    return shlex.join(words)


@cli.command(name="catalogue")
@click.argument("target", required=False)
@click.option(
    "--case", callback=_cases, multiple=True, metavar="NUMBER", help="Only this case: E-017."
)
@_target_options
def list_catalogue(target: str | None, options: dict[str, Any], case: tuple[str, ...]) -> int:
    """List the conversations that known broken paths fail; with TARGET, hold them."""
    chosen = [c for c in catalogue() if not case or c.number in case]
    if target is not None:
        settings = Settings(examples=0, cases=tuple(c.number for c in chosen))
        return _run_campaign(Target.parse(target, **options), settings)
    for one in chosen:
        for line in _case_lines(one, whole=bool(case)):
            print(line)
    return 0


def _case_lines(case: Case, whole: bool) -> list[str]:
    script = str(case.session)
    return [
        f"{case.number}  {case.name}",
        f"       {case.why}",
        f"       {script if whole else shorten(script, 90)}",
    ]


@cli.command()
@click.argument("target")
@click.argument("conversation", required=False)
@click.option(
    "--retries",
    type=click.IntRange(1, 10**5),
    default=10,
    show_default=True,
    metavar="K",
    help="Hold it until it fails, at most K times.",
)
@_target_options
def replay(target: str, options: dict[str, Any], conversation: str | None, retries: int) -> int:
    """Hold one CONVERSATION with TARGET, or the saved failure with an ID.

    \b
    echoproto replay TARGET 'send 0d ff; await'
    echoproto replay TARGET ID
    echoproto replay ID          with the target it was found at
    """
    store = SavedFailures()
    saved: SavedFailure | None = None
    if conversation is None:
        if not re.fullmatch(r"[0-9a-f]{1,8}", target):
            raise click.UsageError(
                f"replay {target!r}: give TARGET and CONVERSATION, or the ID of a saved failure"
            )
        saved = store.get(target)
        place_ = _saved_target(saved)
    else:
        place_ = Target.parse(target, **options)
        if re.fullmatch(r"[0-9a-f]{8}", conversation):
            saved = store.get(conversation)
    session = saved.session if saved is not None else Session.parse(conversation or "")
    connector, known = preflight(place_)
    outcome = run_session(session, connector, known.limits(known.patience))
    number = 1
    while outcome.ok and number < retries:
        outcome = run_session(session, connector, known.limits(known.patience))
        number += 1
    print(f"{place_}: {shorten(str(session), 400)}")
    for line in describe(outcome):
        print(line)
    if outcome.ok:
        print(f"\npassed in {number} runs")
    else:
        print(f"\nfailed in run {number}: {outcome.kind}")
    if saved is not None:
        store.mark(saved, passed=outcome.ok)
    return 0 if outcome.ok else 1


def _saved_target(saved: SavedFailure) -> Target:
    """The target that a failure was found at, with its options."""
    if saved.target is None:
        raise click.UsageError(f"replay {saved.id}: its file names no target; give TARGET too")
    with replay.make_context("replay", shlex.split(saved.target), resilient_parsing=True) as ctx:
        names = ("ca", "cert", "key", "insecure", "server_name", "send_proxy")
        return Target.parse(ctx.params["target"], **{name: ctx.params[name] for name in names})


@cli.command()
@click.argument("target")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", help="Stop after N.")
@click.option(
    "-i",
    "interval",
    callback=_number,
    default="1",
    show_default=True,
    metavar="S",
    help="Seconds from one to the next.",
)
@click.option(
    "-s",
    "size",
    type=click.IntRange(1, 64 * 1024 * 1024),
    default=56,
    show_default=True,
    metavar="SIZE",
    help="Bytes in each.",
)
@click.option("--flood", is_flag=True, help="No pause between them; print losses only.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line.")
@_target_options
def ping(
    target: str,
    options: dict[str, Any],
    count: int | None,
    interval: float,
    size: int,
    flood: bool,
    as_json: bool,
) -> int:
    """Measure round trips to TARGET over one connection, and compare every byte."""
    parsed = Target.parse(target, **options)
    connector = connect(parsed)
    check_echo(connector)
    address = place(connector)
    statistics = Statistics()
    interrupted = False
    if not as_json:
        print(f"PING {parsed} ({address}) {size} bytes of data.", flush=True)
    try:
        for reply in pings(connector, count, 0.0 if flood else interval, size):
            statistics.add(reply)
            if not flood or reply.kind is not Fault.NONE:
                print(_reply_json(reply) if as_json else _reply(reply, address, size), flush=True)
    except KeyboardInterrupt:
        interrupted = True
    if as_json:
        print(json.dumps(_statistics_json(statistics, str(parsed))))
    else:
        print("\n".join(_statistics(statistics, str(parsed))))
    return INTERRUPTED if interrupted else int(statistics.lost > 0)


def _reply(reply: Reply, address: str, size: int) -> str:
    if reply.kind is Fault.NONE:
        return f"{size} bytes from {address}: seq={reply.number} time={_ms(reply.seconds)} ms"
    return f"from {address}: seq={reply.number} {reply.kind}: {reply.message}"


def _ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}"


def _reply_json(reply: Reply) -> str:
    values = {"seq": reply.number, "verdict": str(reply.kind), "ms": round(1000 * reply.seconds, 6)}
    return json.dumps(values | ({"message": reply.message} if reply.message else {}))


def _statistics(statistics: Statistics, target: str) -> list[str]:
    sent, lost = statistics.sent, statistics.lost
    loss = f"{lost / sent:.3%}".replace(".000%", "%") if sent else "0%"
    lines = [
        f"--- {target} ping statistics ---",
        f"{sent} sent, {sent - lost} received, {loss} loss",
    ]
    if times := statistics.milliseconds():
        values = "/".join(f"{value:.3f}" for value in times.values())
        lines.append(f"rtt {'/'.join(times)} = {values} ms")
    return lines


def _statistics_json(statistics: Statistics, target: str) -> dict[str, Any]:
    return {
        "target": target,
        "sent": statistics.sent,
        "received": statistics.sent - statistics.lost,
        "lost": statistics.lost,
        "ms": {name: round(value, 6) for name, value in statistics.milliseconds().items()},
    }
