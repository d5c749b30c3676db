"""Every peer can be asked whether it can run here, and what it cannot do."""

import importlib.util
import shutil

import pytest

from benchmarks.goals import COMPARED
from benchmarks.peers import PEERS
from benchmarks.works import works

BY_NAME = {peer.name: peer for peer in PEERS}


def test_names() -> None:
    assert len(BY_NAME) == len(PEERS)
    assert set(COMPARED) < set(BY_NAME)


def test_what_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    assert {name: peer.missing() for name, peer in BY_NAME.items()} == {
        "ours": "echoproto.command.tap, the server, is not in this checkout",
        "ours-stock-lane": "echoproto.command.tap, the server, is not in this checkout",
        "twisted": None,
        "asyncio-protocol": None,
        "asyncio-streams": None,
        "uvloop-protocol": "uvloop is not installed: pip install 'echoproto[bench]'",
        "uvloop-streams": "uvloop is not installed: pip install 'echoproto[bench]'",
        "trio": "trio is not installed: pip install 'echoproto[bench]'",
        "c-epoll": "cc is not installed",
        "c-splice": "cc is not installed",
        "python-epoll": None,
        "go": "go is not installed",
        "socat": "socat is not installed",
        "ncat": "ncat is not installed",
        "stunnel": "stunnel is not installed",
    }


def test_servers_that_fork_are_not_asked_for_a_thousand_processes() -> None:
    can = {
        name: [work.name for work in works(10_000) if not work.tls and not peer.unable(work)]
        for name, peer in BY_NAME.items()
    }
    assert can["socat"] == ["pingpong-50", "pingpong-1", "bulk", "bulk-50", "accept", "latency"]
    assert can["ncat"] == ["pingpong-50", "pingpong-1", "bulk-50", "latency"]
    plain = [work for work in works(10_000) if not work.tls]
    assert can["c-splice"] == [work.name for work in plain if not work.idle]
    assert can["ours"] == [work.name for work in plain]
    assert can["stunnel"] == []


def test_the_peers_with_tls() -> None:
    over_tls = [work for work in works(10_000) if work.tls]
    can = {
        name: [work.name for work in over_tls if not peer.unable(work)]
        for name, peer in BY_NAME.items()
    }
    complete = ["tls-50", "tls-bulk", "tls-accept"]
    assert {name: some for name, some in can.items() if some} == {
        **dict.fromkeys(("ours", "ours-stock-lane", "twisted"), complete),
        **dict.fromkeys(("asyncio-protocol", "asyncio-streams"), complete),
        **dict.fromkeys(("uvloop-protocol", "uvloop-streams", "stunnel"), complete),
        "python-epoll": ["tls-50", "tls-accept"],
    }
