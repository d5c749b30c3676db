"""The drawings are SVG that shows every peer, the same for the same figures."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import plots
from benchmarks.peers import PEERS
from benchmarks.rounds import Run
from tests.benchmarks.conftest import measurement


def test_every_peer_has_a_colour() -> None:
    assert set(plots.COLOURS) == {peer.name for peer in PEERS}
    assert len(set(plots.COLOURS.values())) == len(PEERS)


@pytest.mark.parametrize("plot", plots.PLOTS, ids=lambda plot: plot.file)
def test_drawing(plot: plots.Plot, tmp_path: Path) -> None:
    if missing := plots.missing():
        pytest.skip(missing)
    run = Run(
        [
            measurement(peer, work.name, number, cpu=1.0 + number)
            for peer in ("ours", "twisted")
            for work in plot.works
            for number in range(3)
        ]
    )
    path = plots.draw(plot, run, PEERS, tmp_path)
    assert path == tmp_path / plot.file
    drawn = path.read_bytes()
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"
    for shown in ("ours", "twisted", plot.title, plot.axis):
        assert f"<!-- {shown} -->".encode() in drawn
    assert b"<!-- trio -->" not in drawn
    plots.draw(plot, run, PEERS, tmp_path)
    assert path.read_bytes() == drawn
