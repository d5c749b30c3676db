from __future__ import annotations

import time
from dataclasses import replace

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.loop import Loop
from echoproto.probe.wire.run import run_all
from echoproto.probe.wire.running import Running
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import Path, Relay

LIMITS = Limits(stall=20, half_close=True)

SCRIPTS = [
    "nothing",
    "send 00; await; send 01",
    "send 61*100000 | send 62*100000; await",
    "pause 100; send 61",
    "send 61 then send 62; await then nothing",
    "slow 1000000; send 61*30000; await",
    "send 61; reset",
    "fin",
]


class Slow(Relay):
    """Echoes after 150 ms."""

    def echo_sent(self, data: bytes) -> None:
        self.later(150, lambda: self.to_client(data))

    def echo_ended(self) -> None:
        self.later(150, super().echo_ended)


def connector(path: Path) -> Connector:
    target = Target.parse(f"127.0.0.1:{path.port}")
    return Connector(target, target.addresses()[0])


def test_independent_sessions_pass_together_as_alone(right_connector: Connector) -> None:
    sessions = [Session.parse(script) for script in SCRIPTS * 6]
    outcomes = run_all(sessions, right_connector, LIMITS)
    assert [outcome.session for outcome in outcomes] == sessions
    assert [outcome.verdict.message for outcome in outcomes if not outcome.ok] == []


def test_together_they_take_the_time_of_one() -> None:
    with Path(Slow) as path:
        scripts = [Session.parse("send 61; await; send 62")] * 30
        outcomes = run_all(scripts, connector(path), LIMITS)
    assert all(outcome.ok for outcome in outcomes)
    alone = max(outcome.seconds for outcome in outcomes)
    # One after the other, they would take thirty times as long.
    assert alone < sum(outcome.seconds for outcome in outcomes) / 10


def test_one_that_fails_leaves_the_others_alone() -> None:
    class DropsFF(Relay):
        def client_sent(self, data: bytes) -> None:
            self.to_echo(data.replace(b"\xff", b""))

    scripts = ["send ff", "send 61*50000", "send 61; await", "send 62 ff"]
    with Path(DropsFF) as path:
        sessions = [Session.parse(script) for script in scripts]
        outcomes = run_all(sessions, connector(path), LIMITS)
    kinds = [outcome.kind for outcome in outcomes]
    assert kinds == [Fault.TRUNCATED, Fault.NONE, Fault.NONE, Fault.TRUNCATED]


def test_one_that_waits_is_late_first_and_can_be_given_up() -> None:
    class Mute(Relay):
        def opened(self) -> None:
            self.mute()

    with Path(Mute) as path:
        limits = replace(LIMITS, late=0.1)
        running = Running(Session.parse("send 61; await"), connector(path), limits)
        loop = Loop()
        loop.add(running)
        while not running.is_late(time.monotonic()):
            assert loop.turn(time.monotonic() + 0.05) == []
        assert running.outcome is None
        running.give_up(time.monotonic())
        loop.remove(running)
    assert running.outcome is not None
    assert running.outcome.kind is Fault.STALLED
    assert "0 of 1 byte came back" in running.outcome.verdict.message
    assert len(loop) == 0


def test_what_is_removed_leaves_no_socket_behind(right_connector: Connector) -> None:
    loop = Loop()
    running = [
        Running(Session.parse("pause 10000 | send 61; pause 10000"), right_connector, LIMITS)
        for _ in range(5)
    ]
    for one in running:
        loop.add(one)
    loop.turn(time.monotonic() + 0.1)
    assert len(loop) == 5
    fds = [exchange.fd for one in running for exchange in one.active]
    assert len({*fds}) == 10
    loop.close()
    assert len(loop) == 0
    # The numbers are free: the next sockets get them.
    again = Running(Session.parse("nothing"), right_connector, LIMITS)
    loop.add(again)
    while again.outcome is None:
        loop.turn(time.monotonic() + 1)
    assert again.outcome.ok


def test_a_wait_that_ends_is_measured() -> None:
    class LateEnd(Relay):
        def echo_ended(self) -> None:
            self.later(300, super().echo_ended)

    with Path(LateEnd) as path:
        (outcome,) = run_all([Session.parse("send 61")], connector(path), LIMITS)
        assert outcome.ok
        at = {str(event.action): event.at for event in outcome.timelines[0]}
        assert outcome.wait == pytest.approx(at["eof"] - at["received"])
        assert str(outcome.waited_for) == "eof"
        limits = replace(LIMITS, max_delay=0.1)
        (outcome,) = run_all([Session.parse("send 61")], connector(path), limits)
    assert outcome.kind is Fault.DELAYED
    assert outcome.verdict.message.startswith("all bytes came back, but the path closed 0.")
