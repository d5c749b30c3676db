from __future__ import annotations

import io

from echoproto.probe.report.json_lines import JsonLines
from echoproto.probe.search.observer import Observers
from tests.probe.sample_result import sample_result, tell


def test_all_observers_receive_the_same() -> None:
    streams = [io.StringIO(), io.StringIO()]
    tell(Observers([JsonLines(s) for s in streams]), sample_result())
    assert streams[0].getvalue() == streams[1].getvalue()
    assert len(streams[0].getvalue().splitlines()) == 9
