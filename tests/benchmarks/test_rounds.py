"""Rounds interleave the peers; a peer at fault does not end the run."""

import re
import resource
import sys

import pytest

from benchmarks.build import BuildError
from benchmarks.load import Timing
from benchmarks.peers import Peer
from benchmarks.processes import Cores
from benchmarks.rounds import _open_rates, raise_descriptor_limit, run_rounds, smoke
from benchmarks.works import Work

pytestmark = pytest.mark.usefixtures("cc")

BRIEF = Timing(seconds=0.05, warmup=0.0, stall=0.5)
NOWHERE = Cores(None, None)
PINGPONG = Work("pingpong-50", "", "pingpong", 2, 100)

SERVER = """
import os, socketserver, threading, time
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(answer(data))
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 100
with Server(("127.0.0.1", 0), Echo) as server:
    print("listening on 127.0.0.1:%d" % server.server_address[1], flush=True)
    server.serve_forever()
"""


def peer(name: str, answer: str = "data", cannot: str | None = None) -> Peer:
    code = f"answer = lambda data: {answer}\n{SERVER}"
    return Peer(
        name,
        "",
        lambda: [sys.executable, "-c", code],
        lambda: None,
        lambda work: cannot,
    )


def test_every_round_turns_the_order() -> None:
    run = run_rounds([peer("a"), peer("b")], [PINGPONG], 2, BRIEF, NOWHERE, lambda line: None)
    assert [(m.round, m.peer) for m in run.measurements] == [(0, "a"), (0, "b"), (1, "b"), (1, "a")]
    assert not run.faults
    for m in run.measurements:
        assert m.bytes == m.echoes * 100 > 0
        assert m.cpu > 0
        assert m.rss > 1_000_000
        assert m.rss_per_idle is None


def test_a_fault_is_kept_and_the_run_goes_on() -> None:
    run = run_rounds(
        [peer("wrong", "data.swapcase()"), peer("dies", "os._exit(3)"), peer("right")],
        [PINGPONG],
        2,
        BRIEF,
        NOWHERE,
        lambda line: None,
    )
    assert [m.peer for m in run.measurements] == ["right", "right"]
    wrong, dies = sorted(run.faults, reverse=True)
    # The connections race: either one may report first.
    assert re.match("wrong, pingpong-50: connection [01]: byte ", wrong)
    assert re.match("dies, pingpong-50: connection [01]: ", dies)


def test_a_peer_that_cannot_be_compiled_is_a_fault() -> None:
    def refused() -> list[str]:
        raise BuildError("cc says no")

    bad = Peer("bad", "", refused, lambda: None)
    run = run_rounds([bad, peer("a")], [PINGPONG], 1, BRIEF, NOWHERE, lambda line: None)
    assert run.faults == ["bad, pingpong-50: cc says no"]
    assert [m.peer for m in run.measurements] == ["a"]
    assert smoke([bad], [PINGPONG], BRIEF, NOWHERE, lambda line: None).faults == ["bad: cc says no"]


def test_memory_of_idle_connections() -> None:
    work = Work("neighbours", "", "pingpong", 2, 100, idle=50)
    run = run_rounds([peer("a")], [work], 1, BRIEF, NOWHERE, lambda line: None)
    (found,) = run.measurements
    # A thread for each costs at least a page of its stack.
    assert found.rss_per_idle is not None
    assert 4096 <= found.rss_per_idle < 1_000_000


def test_the_open_loop_asks_half_of_what_the_judged_peer_can() -> None:
    works = [PINGPONG, Work("latency", "", "open", 2, 100)]
    run = run_rounds(
        [peer("slow", "time.sleep(0.002) or data"), peer("fast")],
        works,
        1,
        Timing(seconds=0.3, warmup=0.0, stall=1.0),
        NOWHERE,
        lambda line: None,
        judged=("fast",),
    )
    closed = {m.peer: m.echoes_per_second for m in run.measurements if m.rate is None}
    rates = {m.peer: m.rate for m in run.measurements if m.rate is not None}
    # p99 varies more than a sum.
    assert [m.round for m in run.of("fast", "latency")] == [0, 1]
    assert not run.faults
    assert rates == {name: pytest.approx(closed[name] / 2) for name in ("slow", "fast")}


def test_a_peer_that_cannot_do_the_open_loop_is_not_asked_for_its_rate() -> None:
    only_tls = Peer("tls", "", None, lambda: None)
    work = Work("latency", "", "open", 2, 100)
    run = run_rounds([only_tls], [work], 1, BRIEF, NOWHERE, lambda line: None)
    assert run.left_out == ["tls, latency: it serves TLS only"]
    assert not run.faults


def test_rates_of_the_open_loop() -> None:
    saturation = {"ours": 100.0, "uvloop-protocol": 80.0, "c-epoll": 200.0, "twisted": 30.0}
    assert _open_rates(saturation, ("ours", "uvloop-protocol", "absent")) == {
        "ours": 40.0,
        "uvloop-protocol": 40.0,
        "c-epoll": 40.0,
        "twisted": 15.0,
    }
    # Where none of the judged is measured, the slowest says it.
    assert set(_open_rates(saturation, ()).values()) == {15.0}
    assert _open_rates({}, ("ours",)) == {}


def test_what_a_peer_cannot_do_is_left_out() -> None:
    run = run_rounds(
        [peer("a", cannot="it is too old")], [PINGPONG], 1, BRIEF, NOWHERE, lambda line: None
    )
    assert run.left_out == ["a, pingpong-50: it is too old"]
    assert not run.measurements


def test_too_few_descriptors_leave_a_work_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.rounds.raise_descriptor_limit", lambda wanted: 200)
    big = Work("neighbours", "", "pingpong", 2, 100, idle=1000)
    run = run_rounds([peer("a")], [PINGPONG, big], 1, BRIEF, NOWHERE, lambda line: None)
    assert [m.work for m in run.measurements] == ["pingpong-50"]
    assert run.left_out == ["neighbours: needs 1,102 open files, `ulimit -n` allows 200"]


def test_the_descriptor_limit_is_raised_as_far_as_allowed() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        assert raise_descriptor_limit(200) == 256
        assert raise_descriptor_limit(300) == 300
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 300
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_smoke_starts_a_peer_once_and_finds_faults() -> None:
    works = [PINGPONG, Work("accept", "", "accept", 2, 64), Work("open", "", "open", 2, 64)]
    run = smoke(
        [peer("right"), peer("wrong", "data[::-1]")], works, BRIEF, NOWHERE, lambda line: None
    )
    assert [(m.peer, m.work) for m in run.measurements] == [
        ("right", "pingpong-50"),
        ("right", "accept"),
        ("right", "open"),
    ]
    assert len(run.faults) == 1
    assert re.match("wrong: connection [01]: byte 0 came back as 0x", run.faults[0])
