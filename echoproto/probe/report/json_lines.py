"""Writes a campaign as JSON lines, while it runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any, Protocol

from echoproto.probe.report.explanation import to_json
from echoproto.probe.report.summary import made_by, started_text, verdict_line
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Fault

__all__ = ["JsonLines", "settings_json"]


class Stream(Protocol):
    """What takes the lines."""

    def write(self, line: str, /) -> object:
        """Take a line."""


class JsonLines(Observer):
    """Writes each session and its verdict as it is run, one JSON object per line.

    The key ``event`` says what a line is: ``start``, ``phase``, ``session``, ``failure``,
    ``note``, then ``explained`` for each failing session, and ``end``. These two are missing if
    the campaign was killed.

    Args:
        stream: to write to, a line at a time.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._failures = 0

    def start(self, result: CampaignResult) -> None:
        """Write the first line: what is tested, when and by which version."""
        self._write(
            "start",
            date=started_text(result),
            version=made_by(),
            target=list(result.target),
            command=result.command,
            settings=settings_json(result.settings),
        )

    def phase(self, phase: Phase, total: int | None) -> None:
        self._write("phase", phase=phase, total=total)

    def record(self, record: CaseRecord) -> None:
        values = asdict(record)
        del values["explained_by"]  # not known yet
        self._write("session", **values)

    def failure(self, failure: Failure) -> None:
        verdict = failure.outcome.verdict
        self._failures += 1
        explained: dict[str, Any] = {}
        if failure.explanation is not None:
            explained["explanation"] = to_json(failure.explanation)
        elif failure.not_explained:
            explained["not_explained"] = failure.not_explained
        self._write(
            "failure",
            number=self._failures,
            kind=failure.kind,
            script=str(failure.session),
            message=verdict.message,
            offset=verdict.offset,
            expected=verdict.expected.hex(" "),
            got=verdict.got.hex(" "),
            found=str(failure.found),
            found_by=failure.found_by,
            reproduced=failure.reproduced,
            runs=failure.runs,
            shrink_runs=failure.shrink_runs,
            seconds=failure.seconds,
            id=failure.id,
            replay=failure.replay,
            remark=failure.remark,
            away=failure.away,
            **explained,
        )

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def end(self, result: CampaignResult) -> None:
        """Write what explains each failing session, and the sums."""
        for record in result.records:
            if record.kind is not Fault.NONE:
                index = record.explained_by
                self._write(
                    "explained",
                    phase=record.phase,
                    name=record.name,
                    script=record.script,
                    kind=record.kind,
                    explained_by=None if index is None else index + 1,
                )
        self._write(
            "end",
            result=verdict_line(result)[0],
            error=result.error,
            interrupted=result.interrupted,
            failures=len(result.failures),
            kinds=result.kinds,
            counts=result.counts,
            bytes_sent=result.bytes_sent,
            seconds=result.seconds,
            rate=result.rate,
            command=result.command,
            held=result.held,
            asked=result.wanted,
            not_again=result.transients,
            delayed=result.delayed,
            longest_delay=result.longest_delay,
            preflight=None if result.preflight is None else _preflight_json(result.preflight),
        )

    def _write(self, event: str, **values: Any) -> None:
        self._stream.write(json.dumps({"event": event, **values}) + "\n")


def settings_json(settings: Settings) -> dict[str, Any]:
    """Return ``settings`` for JSON: sets as sorted lists, bytes in hexadecimal."""
    values = asdict(settings)
    values["exclude"] = sorted(map(str, settings.exclude))
    values["tokens"] = [token.hex(" ") for token in settings.tokens]
    return values


def _preflight_json(preflight: Preflight) -> dict[str, Any]:
    """Return what the preflight found for JSON, which has no infinity."""
    values = asdict(preflight)
    values["check"] = str(preflight.check)
    values["rate"] = preflight.rate if math.isfinite(preflight.rate) else None
    return values
