"""Writes a campaign as JSON lines, while it runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

from echoproto.probe.search.observer import Observer
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings

__all__ = ["JsonLines", "settings_json"]


class JsonLines(Observer):
    """Writes each session and its verdict as it is run, one JSON object per line.

    The key ``event`` says what a line is: ``start``, ``phase``, ``session``, ``failure``,
    ``note``, or ``end``, which is missing if the campaign was killed.

    Args:
        stream: to write to; flushed after each line.
        target: the target as given, with its options.
        settings: what was asked for.
    """

    def __init__(self, stream: TextIO, target: Sequence[str], settings: Settings) -> None:
        self._stream = stream
        self._write("start", target=list(target), settings=settings_json(settings))

    def phase(self, phase: Phase, total: int | None) -> None:
        self._write("phase", phase=phase, total=total)

    def record(self, record: CaseRecord) -> None:
        self._write("session", **asdict(record))

    def failure(self, failure: Failure) -> None:
        verdict = failure.outcome.verdict
        self._write(
            "failure",
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
        )

    def note(self, text: str) -> None:
        self._write("note", text=text)

    def end(self, result: CampaignResult) -> None:
        """Write the last line."""
        self._write(
            "end",
            error=result.error,
            interrupted=result.interrupted,
            failures=len(result.failures),
            kinds=result.kinds,
            counts=result.counts,
            bytes_sent=result.bytes_sent,
            seconds=result.seconds,
            rate=result.rate,
            command=result.command,
            preflight=None if result.preflight is None else asdict(result.preflight),
        )

    def _write(self, event: str, **values: Any) -> None:
        self._stream.write(json.dumps({"event": event, **values}) + "\n")
        self._stream.flush()


def settings_json(settings: Settings) -> dict[str, Any]:
    """Return ``settings`` for JSON: sets as sorted lists, bytes in hexadecimal."""
    values = asdict(settings)
    values["exclude"] = sorted(map(str, settings.exclude))
    values["tokens"] = [token.hex(" ") for token in settings.tokens]
    return values
