"""``echoproto ping``."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any

import click

from echoproto.probe.cli.ending import TerminatedError, exit_code
from echoproto.probe.cli.options import WholeNumber, number, target_options
from echoproto.probe.report.summary import made_by
from echoproto.probe.script.words import plural
from echoproto.probe.search.first_contact import first_contact
from echoproto.probe.wire.first_connection import connect, place
from echoproto.probe.wire.ping import TIMEOUT, Reply, Statistics, pings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault

__all__ = ["ping"]


@click.command()
@click.argument("target")
@click.option("-c", "count", type=WholeNumber(1), metavar="N", help="Stop after N.")
@click.option(
    "-i",
    "interval",
    callback=number,
    default="1",
    show_default=True,
    metavar="S",
    help="Seconds from one to the next.",
)
@click.option(
    "-s",
    "size",
    type=WholeNumber(1, 64 * 1024 * 1024),
    default=56,
    show_default=True,
    metavar="SIZE",
    help="Bytes in each.",
)
@click.option(
    "-W",
    "timeout",
    callback=number,
    default=f"{TIMEOUT:g}",
    show_default=True,
    metavar="S",
    help="Seconds without a byte of a reply after which it is lost.",
)
@click.option(
    "-w",
    "deadline",
    callback=number,
    metavar="S",
    help="Stop after S seconds; -c is then the number of replies to wait for.",
)
@click.option("-q", "quiet", is_flag=True, help="Print the summary only.")
@click.option("-f", "--flood", is_flag=True, help="Do not pause between them; print losses only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@target_options
def ping(
    target: str,
    options: dict[str, Any],
    count: int | None,
    interval: float,
    size: int,
    timeout: float,
    deadline: float | None,
    quiet: bool,
    flood: bool,
    as_json: bool,
) -> int:
    """Measure round trips to TARGET, and compare every byte.

    All go over one connection; after a loss, the next one opens a new connection. Ctrl-C ends it
    with the summary.

    Exit codes: 0 every reply was right, 1 one was lost or none came (or fewer than -c before -w), 2
    could not test.
    """
    parsed = Target.parse(target, **options)
    connector = connect(parsed)
    if not parsed.is_single:
        first_contact(connector, timeout)
    address = place(connector)
    statistics = Statistics()
    began = datetime.now(timezone.utc).astimezone()
    if not as_json:
        print(f"PING {parsed.place} ({address}) {plural(size, 'byte')} of data.", flush=True)
    replies = pings(connector, count, 0.0 if flood else interval, size, timeout, deadline)
    terminated = 0
    try:
        for reply in replies:
            statistics.add(reply)
            if not quiet and (not flood or reply.kind is not Fault.NONE):
                print(_reply_json(reply) if as_json else _reply(reply, address, size), flush=True)
    except TerminatedError as stop:
        terminated = exit_code(stop)
    except KeyboardInterrupt:
        pass  # the usual end of ping(8), with its statistics
    if as_json:
        print(json.dumps(_statistics_json(statistics, str(parsed), began)))
    else:
        print("\n".join(_statistics(statistics, str(parsed))))
    too_few = deadline is not None and count is not None and statistics.received < count
    return terminated or int(statistics.lost > 0 or not statistics.received or too_few)


def _reply(reply: Reply, address: str, size: int) -> str:
    if reply.kind is Fault.NONE:
        what = f"{plural(size, 'byte')} from {address}"
        return f"{what}: seq={reply.number} time={_ms(reply.seconds)} ms"
    return f"from {address}: seq={reply.number} {_verdict(reply)}: {reply.message}"


def _verdict(reply: Reply) -> str:
    return "unanswered" if reply.kind is None else str(reply.kind)


def _ms(seconds: float) -> str:
    ms = 1000 * seconds
    return f"{ms:.3f}" if ms < 1 else f"{ms:.2f}" if ms < 10 else f"{ms:.1f}"


def _reply_json(reply: Reply) -> str:
    values = {"seq": reply.number, "verdict": _verdict(reply), "ms": round(1000 * reply.seconds, 6)}
    return json.dumps(values | ({"message": reply.message} if reply.message else {}))


def _statistics(statistics: Statistics, target: str) -> list[str]:
    sent, lost = statistics.sent, statistics.lost
    loss = f"{lost / sent:.3%}".replace(".000%", "%") if sent else "0%"
    counts = f"{sent} sent, {statistics.received} received, {loss} loss"
    if statistics.unanswered:
        counts += f", {statistics.unanswered} unanswered at the deadline"
    lines = [f"--- {target} ping statistics ---", counts]
    if times := statistics.milliseconds():
        values = "/".join(f"{value:.3f}" for value in times.values())
        lines.append(f"rtt {'/'.join(times)} = {values} ms")
    return lines


def _statistics_json(statistics: Statistics, target: str, began: datetime) -> dict[str, Any]:
    return {
        "date": began.isoformat(timespec="seconds"),
        "version": made_by(),
        "target": target,
        "sent": statistics.sent,
        "received": statistics.received,
        "lost": statistics.lost,
        "unanswered": statistics.unanswered,
        "ms": {name: round(value, 6) for name, value in statistics.milliseconds().items()},
    }
