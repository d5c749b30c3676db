"""``echoproto relay``."""

from __future__ import annotations

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click
from click.shell_completion import CompletionItem

from echoproto.probe.cli.options import WholeNumber
from echoproto.probe.cli.output import LineFile
from echoproto.probe.relay.arguments import ArgumentError
from echoproto.probe.relay.arguments import rate as parse_rate
from echoproto.probe.relay.fault import ChosenFault, Fault, FaultError, choose
from echoproto.probe.relay.faults import FAULTS, GROUPS
from echoproto.probe.relay.listen import ListenError, bound_to, listen_at, remove_file
from echoproto.probe.relay.log import Event
from echoproto.probe.relay.server import Relay
from echoproto.probe.relay.upstream import to_target

__all__ = ["relay"]

#: The events that are printed; the others are only in the file of ``--log``.
_PRINTED = ("fault", "failed", "end")


def _list(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print all faults and exit."""
    if not wanted or context.resilient_parsing:
        return
    for heading, faults in GROUPS.items():
        print(f"{heading}\n")
        for fault in faults:
            print("\n".join(_lines(fault)))
        print()
    context.exit()


def _lines(fault: Fault) -> Iterator[str]:
    yield f"  {fault.usage}" + (f"  (default {fault.default})" if fault.default else "")
    yield f"      {fault.what}"
    yield f"      Seen in: {fault.seen}"


def _rate(_: click.Context, __: click.Parameter, value: str | None) -> float:
    try:
        return 1.0 if value is None else parse_rate(value)
    except ArgumentError as error:
        raise click.BadParameter(str(error)) from None


def _complete_fault(_: click.Context, __: click.Parameter, begun: str) -> list[CompletionItem]:
    return [
        CompletionItem(fault.name, help=fault.what)
        for fault in FAULTS
        if fault.name.startswith(begun)
    ]


@click.command()
@click.argument("listen", metavar="LISTEN")
@click.argument("target", required=False)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="[back:]NAME[=ARG][@RATE]",
    help="Do this to each connection, or to RATE of them, such as 10%. With back: it does to the "
    "target what it does to the client otherwise.",
    shell_complete=_complete_fault,
)
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="List the faults, what each does, and where it was seen.",
)
@click.option(
    "--rate",
    callback=_rate,
    metavar="RATE",
    help="The rate of each fault that names none, such as 10%. Default: 100%.",
)
@click.option(
    "--seed",
    type=WholeNumber(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Draw the connections of a rate, and random delays, from this seed.",
)
@click.option(
    "--log",
    "log_file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write what was done to which connection, one JSON object per line.",
)
def relay(
    listen: str,
    target: str | None,
    faults: tuple[str, ...],
    rate: float,
    seed: int,
    log_file: str | None,
) -> int:
    """Forward each connection from LISTEN to TARGET, with the faults that are asked for.

    LISTEN is host:port or unix:/path; port 0 is a free one. TARGET is host:port or unix:/path;
    without it, an echo of its own answers. Without a fault, the path is right. Faults are applied
    in the order given, from the client to the target.

    It prints what its faults do, and runs until Ctrl-C or SIGTERM.

    Exit codes: 130 after Ctrl-C, 143 after SIGTERM, 2 if it could not start.
    """
    chosen = _choose(faults, rate)
    upstream = None if target is None else to_target(target)
    with contextlib.ExitStack() as stack:
        observers = [_print]
        if log_file is not None:
            log = stack.enter_context(contextlib.closing(LineFile("--log", Path(log_file))))
            observers.append(_JsonLines(log))
        _allow_many_connections()
        try:
            listener = listen_at(listen)
        except ListenError as error:
            raise click.UsageError(str(error)) from None
        place = bound_to(listener)
        stack.callback(remove_file, place)
        served = Relay(listener, chosen, upstream, observers, seed=seed)
        through = ", ".join(fault.text for fault in chosen) or "nothing"
        ended = _ends_at_signals(stack, served)
        print(f"listening on {place}; to {target or 'an echo'} through {through}", flush=True)
        served.run()
        return ended[0]


def _choose(faults: tuple[str, ...], usual: float) -> list[ChosenFault]:
    try:
        return [choose(text, FAULTS, usual) for text in faults]
    except FaultError as error:
        raise click.UsageError(f"--fault {error}") from None


def _print(event: Event) -> None:
    if event.kind in _PRINTED:
        print(event.as_text(), flush=True)


class _JsonLines:
    """Writes events to a file, and ends the relay if that fails."""

    def __init__(self, file: LineFile) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(f"{event.as_json()}\n")
        if self._file.error:
            raise click.ClickException(self._file.error)


def _allow_many_connections() -> None:
    """Raise the limit of descriptors as far as it may be: each connection needs two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _ends_at_signals(stack: contextlib.ExitStack, served: Relay) -> list[int]:
    """Stop the relay at SIGINT and SIGTERM; return where the exit code will be."""
    code = [0]

    def end(number: int, _: FrameType | None) -> None:
        code[0] = 128 + number
        served.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        stack.callback(signal.signal, number, signal.signal(number, end))
    return code
