"""What the probe finds in programs that are used as an echo, or in front of one.

Each test asserts rows of docs/findings.rst: the verdict, the shortest conversation, and the
explanation.
"""

from __future__ import annotations

import re
from pathlib import Path as File
from typing import Any

import pytest

from echoproto.probe.script.conversation import Await, HalfClose, Send, Session, SlowRead
from echoproto.probe.search.campaign import Campaign
from echoproto.probe.search.explain.explanation import Effect, Explanation, Need
from echoproto.probe.search.failures import SavedFailures
from echoproto.probe.search.result import CampaignResult, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault
from tests.system.echo_programs import in_front, ncat, socat, streams_echo, wire_echo

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def campaign(target: int | Target, folder: File, **settings: Any) -> CampaignResult:
    """The result of a campaign on a port of this machine, or a target."""
    if isinstance(target, int):
        target = Target.parse(f"127.0.0.1:{target}")
    saved = SavedFailures(folder / "saved")
    # On loopback, 5 s of silence are enough to be sure.
    chosen = Settings(**{"seed": 1, "patience": 5, **settings})
    result = Campaign(target, chosen, None, saved).run()
    assert result.exit_code == bool(result.failures), result.error
    return result


def found(result: CampaignResult) -> dict[str, Fault]:
    """The shortest conversation of each failure, with its verdict."""
    return {str(failure.session): failure.kind for failure in result.failures}


def explained(failure: Failure) -> Explanation:
    assert failure.explanation is not None
    return failure.explanation


def sent(text: str) -> int:
    """How many bytes a session of one conversation sends, which does nothing but send and wait.

    A failure in some runs only is not always shrunk to zeros.
    """
    (conversation,) = Session.parse(text).conversations
    steps = conversation.steps
    assert all(isinstance(step, (Send, Await, HalfClose, SlowRead)) for step in steps), text
    return sum(len(step.payload) for step in steps if isinstance(step, Send))


# Programs that lose at FIN what is on its way back. In some of them a single byte is often back
# before: then it is a race.


@pytest.mark.parametrize(
    ("name", "race", "examples"),
    [
        ("twisted.protocols.wire.Echo", True, 1000),
        ("nginx", False, 1000),
        ("redir", True, 200),
        ("rinetd", False, 200),
        ("6tunnel", True, 200),
        ("sslh", True, 200),
        ("simpleproxy", True, 200),
        ("pen", True, 200),
    ],
)
def test_what_a_fin_cuts_off(name: str, race: bool, examples: int, tmp_path: File) -> None:
    echo = wire_echo() if name.startswith("twisted") else in_front(name, tmp_path)
    with echo as port:
        result = campaign(port, tmp_path, examples=examples)
    if race:
        failure = cut_off_in_a_race(result)
    else:
        (failure,) = result.failures
        assert failure.kind is Fault.TRUNCATED
        assert str(failure.session) == "send 00; fin"
        assert_cut_off_at_fin(failure)
    # Everything that was asked for was held: it is the only fault.
    assert result.counts[Phase.FUZZ] == examples
    if not race:
        # On a busy machine the byte is back sometimes, before the program sees FIN.
        assert failure.reproduced > failure.runs / 2
        assert result.preflight is not None
        assert not result.preflight.half_close


def cut_off_in_a_race(result: CampaignResult) -> Failure:
    """The failure that occurs most often.

    With the load of the machine it changes within a run how often it does, and from how many bytes
    on. So there may be another one. tests/probe/search/test_races.py has the paths whose rate
    stays the same, and which have one failure.
    """
    cut_off = [failure for failure in result.failures if failure.kind is Fault.TRUNCATED]
    # A crowd may find the program's accept queue full.
    others = [failure for failure in result.failures if failure.kind is not Fault.TRUNCATED]
    assert all(map(is_crowd, others))
    most_often = max(cut_off, key=lambda failure: failure.reproduced / failure.runs)
    sizes = [sum(len(c.payload) for c in failure.session.conversations) for failure in cut_off]
    # Where a byte is hardly ever cut off, what is shrunk is what is cut off each time.
    assert 1 <= min(sizes) <= 2 or not most_often.flaky
    if 2 * most_often.reproduced > most_often.runs:
        explanation = explained(most_often)
        assert explanation.effect is Effect.TRUNCATED
        assert explanation.needs == (Need.FIN,)
        # What wins it half of the time can look like what passes.
        assert explanation.text.startswith("closes before all bytes are back")
        assert ", when the client sends FIN" in explanation.text
    return most_often


def is_crowd(failure: Failure) -> bool:
    session = failure.session
    return failure.kind is Fault.STALLED and len(session.conversations) > 1


def assert_cut_off_at_fin(failure: Failure) -> None:
    explanation = explained(failure)
    text = "closes before all bytes are back, when the client sends FIN"
    if failure.flaky:
        text += f", in {failure.reproduced} of {failure.runs} runs"
    assert explanation.text == text
    assert explanation.effect is Effect.TRUNCATED
    assert explanation.needs == (Need.FIN,)
    remedies = {suspect.remedy for suspect in explanation.suspects}
    assert {"proxy_half_close on", "socat, with -t"} <= remedies


# Programs with other faults.


def test_ncat_closes_at_fin_and_locks_up_in_bulk(tmp_path: File) -> None:
    # It locks up in half of the runs. A campaign that does not see it takes 2 s.
    for _ in range(20):
        with ncat() as port:
            result = campaign(port, tmp_path, cases=("E-004", "E-080", "E-097"), patience=3)
        if any(failure.kind is Fault.STALLED for failure in result.failures):
            break
    faults = found(result)
    assert faults["send 00; fin"] is Fault.TRUNCATED
    (closes,) = (f for f in result.failures if str(f.session) == "send 00; fin")
    # The byte is back sometimes, before it sees FIN.
    assert closes.reproduced > closes.runs / 2
    assert_cut_off_at_fin(closes)
    # The limit depends on the sizes of the kernel's buffers. A FIN has nothing to do with it.
    # On a busy machine it may be seen only beside other connections as well.
    stalled = [
        failure
        for failure in result.failures
        if failure.kind is Fault.STALLED and len(failure.session.conversations) == 1
    ]
    assert min(sent(str(failure.session)) for failure in stalled) > 100_000
    for failure in stalled:
        assert "fin" not in str(failure.session)
        assert failure.outcome.verdict.received > 0
        # What wins in some runs can look like what passes.
        if failure.explanation is not None and not failure.flaky:
            assert failure.explanation.effect is Effect.WITHHELD
            assert failure.explanation.text.startswith("stops before all bytes are back")
            assert Need.FIN not in failure.explanation.needs


# Three campaigns, each of which waits for its patience several times.
@pytest.mark.timeout(480)
def test_socat_locks_up_with_a_late_reader(tmp_path: File) -> None:
    with socat() as port:
        # It locks up in most runs, but not in all.
        for _ in range(3):
            result = campaign(port, tmp_path, cases=("E-097",))
            if result.failures:
                break
    assert result.preflight is not None
    assert result.preflight.half_close
    assert set(found(result).values()) == {Fault.STALLED}
    assert min(sent(session) for session in found(result)) > 1_000_000
    for failure in result.failures:
        if failure.explanation is not None:
            assert failure.explanation.effect is Effect.WITHHELD
            assert failure.explanation.text.startswith("stops before all bytes are back")


def test_stunnel_cuts_a_slow_reader_off_at_close_notify(tmp_path: File) -> None:
    with in_front("stunnel", tmp_path) as port:
        target = Target.parse(f"tls:127.0.0.1:{port}", insecure=True)
        # Shrinking ends where the buffers are just full, which is a race. And on a busy machine a
        # slow reader waits for longer than a few round trips.
        result = campaign(target, tmp_path, cases=("E-097",), shrink=False, timeout=1)
    assert result.preflight is not None
    assert result.preflight.half_close
    assert found(result) == {"slow 20000000; send (00..fa)*24000": Fault.TRUNCATED}
    (failure,) = result.failures
    assert failure.reproduced > failure.runs / 2
    explanation = explained(failure)
    assert Need.FIN in explanation.needs
    # From how many bytes on depends on the sizes of the kernel's buffers. And on a busy machine the
    # probe itself may be slow enough.
    slowly = " and reads slowly" if Need.SLOW_READER in explanation.needs else ""
    assert re.match(
        "closes before all bytes are back"
        r"(, with \d+ bytes or more in flight( \(\d+ passes\))?)?"
        f", when the client sends FIN{slowly}",
        explanation.text,
    )
    assert Need.SLOW_READER not in explanation.needs or "stunnel" in explanation.suspects[0].what


@pytest.mark.waits
def test_sslh_waits_for_the_first_bytes(tmp_path: File) -> None:
    with in_front("sslh --ssh", tmp_path) as port:
        result = campaign(port, tmp_path, cases=("E-003",), max_delay=1)
    assert found(result) == {"send 00": Fault.DELAYED}
    explanation = explained(result.failures[0])
    assert explanation.delay_ms is not None
    assert explanation.delay_ms >= 2000
    assert explanation.text.startswith(f"answers {explanation.delay_ms} ms late")


# Programs that are right.


def assert_clean(result: CampaignResult, half_close: bool = True, examples: int = 1000) -> None:
    assert found(result) == {}
    assert result.counts[Phase.FUZZ] == examples
    assert result.preflight is not None
    assert result.preflight.half_close is half_close


def test_an_asyncio_streams_echo_is_clean(tmp_path: File) -> None:
    with streams_echo() as port:
        assert_clean(campaign(port, tmp_path))


@pytest.mark.parametrize("name", ["haproxy", "nginx with proxy_half_close"])
def test_a_proxy_that_forwards_half_close_is_clean(name: str, tmp_path: File) -> None:
    with in_front(name, tmp_path) as port:
        assert_clean(campaign(port, tmp_path))


def test_websockify_is_clean(tmp_path: File) -> None:
    with in_front("websockify", tmp_path) as port:
        result = campaign(Target.parse(f"ws://127.0.0.1:{port}"), tmp_path, examples=200)
    assert_clean(result, half_close=False, examples=200)
