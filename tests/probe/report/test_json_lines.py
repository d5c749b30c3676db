from __future__ import annotations

import io
import json
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from echoproto.probe.report.json_lines import JsonLines
from tests.probe.sample_result import HOSTILE, TARGET, sample_result, tell


def test_there_is_a_line_for_each_session_and_the_sums_are_last() -> None:
    stream = io.StringIO()
    result = sample_result()
    lines = JsonLines(stream)
    lines.start(result)
    tell(lines, result)
    lines.end(result)
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in told] == [
        "start", "phase", "note", "phase", "session", "session", "session", "failure",
        "phase", "session", *["explained"] * 5, "end",
    ]  # fmt: skip
    assert told[0]["settings"]["tokens"] == ["0d 0a", "ff"]
    assert told[0]["settings"]["exclude"] == ["refused"]
    assert told[0]["target"] == list(TARGET)
    assert told[0]["version"] == f"echoproto {version('echoproto')}"
    assert datetime.fromisoformat(told[0]["date"]).utcoffset() is not None
    assert told[7]["number"] == 1
    explained = {(line["phase"], line["name"]): line["explained_by"] for line in told[10:-1]}
    assert explained == {
        ("saved failures", "3f9a1c"): 1, ("catalogue", "E-002"): 1, ("catalogue", "E-003"): None,
        ("fuzz", "17"): 2, ("fuzz", "80"): 1,
    }  # fmt: skip
    assert told[-1]["result"] == "2 failures (1 flaky)"
    assert not any("explained_by" in line for line in told if line["event"] == "session")
    assert told[5]["kind"] == "corrupt"
    assert told[5]["title"] == HOSTILE
    assert told[5]["script"] == "send 00*9000; await; send ff; fin"
    assert told[7]["script"] == "send 00*4097"
    assert told[7]["got"] == "00 00 00 00 00 00 00 00 01"
    assert told[-1]["failures"] == 2
    assert told[-1]["counts"]["fuzz"] == 1000
    assert told[-1]["kinds"]["cross-talk"] == 29
    assert told[-1]["preflight"]["half_close"] is True


def test_each_line_is_written_when_its_session_ends(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    with file.open("w", buffering=1) as stream:
        lines = JsonLines(stream)
        lines.record(sample_result().records[0])
        assert len(file.read_text().splitlines()) == 1
