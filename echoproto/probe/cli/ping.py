"""``echoproto ping``."""

from __future__ import annotations

import json
from typing import Any

import click

from echoproto.probe.cli.options import INTERRUPTED, number, target_options
from echoproto.probe.search.preflight import check_echo
from echoproto.probe.wire.channel import connect, place
from echoproto.probe.wire.ping import Reply, Statistics, pings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault

__all__ = ["ping"]


@click.command()
@click.argument("target")
@click.option("-c", "count", type=click.IntRange(1), metavar="N", help="Stop after N.")
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
    type=click.IntRange(1, 64 * 1024 * 1024),
    default=56,
    show_default=True,
    metavar="SIZE",
    help="Bytes in each.",
)
@click.option("--flood", is_flag=True, help="Do not pause between them; print losses only.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@target_options
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
