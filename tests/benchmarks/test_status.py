"""The cost of a request to the status port is measured with connections open."""

import pytest

from benchmarks import status


@pytest.mark.slow
@pytest.mark.usefixtures("cc")
def test_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--connections", "50", "--rounds", "1"]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert head == "CPU time of a request with 50 connections, in milliseconds:"
    assert [line.split()[0] for line in lines] == list(status.PATHS)
    for line in lines:
        answer, total, after_a_pause = (float(line.split()[place]) for place in (1, 3, 4))
        assert 0 < answer <= total
        assert after_a_pause > 0
