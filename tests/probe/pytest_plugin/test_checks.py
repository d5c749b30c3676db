"""What one test concludes about one target, with outcomes that are not those of a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from hypothesis import Phase, given, seed, settings

from echoproto.probe import (
    Conversation,
    EchoTarget,
    Fault,
    Outcome,
    Preflight,
    Send,
    Session,
    Target,
    conversations,
)
from echoproto.probe.pytest_plugin import checks, running_test
from echoproto.probe.pytest_plugin.checks import Checks, Failed
from echoproto.probe.pytest_plugin.message import message
from echoproto.probe.search.availability import availability_of
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.verdict import Verdict

KNOWN = Preflight("here", (0.001,), timeout=0.05, patience=1.0, half_close=True)
HERE = Target.parse("127.0.0.1:1")


class Played:
    """Plays a path: decides which sessions fail, and counts what is run.

    Attributes:
        runs: the sessions run.
        patient: how often with the long timeout.
    """

    def __init__(self, kind: Callable[[Session], Fault]) -> None:
        self.kind = kind
        self.runs: list[Session] = []
        self.patient = 0

    def __call__(
        self, session: Session | Conversation, connector: Connector, limits: Limits
    ) -> Outcome:
        if isinstance(session, Conversation):
            return self.checked(Session((session,)))
        self.runs.append(session)
        self.patient += limits.stall == KNOWN.patience
        verdict = Verdict(self.kind(session), "played")
        count = len(session.conversations)
        return Outcome(session, (verdict,) * count, ((),) * count, 0.0)

    def serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Be what is run, and what is asked whether it works."""
        monkeypatch.setattr(checks, "run", self)
        monkeypatch.setattr("echoproto.probe.search.availability.run", self)

    def checked(self, session: Session) -> Outcome:
        """Whether the path works at all."""
        return Outcome(session, (Verdict(Fault.NONE, ""),), ((),), 0.0)


class Crashing(Played):
    """A server that crashes at FF, and serves nobody for a while.

    :param restarts: how often it is started again.
    """

    def __init__(self, restarts: int) -> None:
        super().__init__(self._kind)
        self.restarts = restarts
        self._missed = 0

    def _kind(self, session: Session) -> Fault:
        if self._missed:
            return Fault.REFUSED
        crashes = any(b"\xff" in conversation.payload for conversation in session.conversations)
        if crashes:
            self.restarts -= 1
            self._missed = 3 if self.restarts >= 0 else 1_000_000
        return Fault.RESET if crashes else Fault.NONE

    def checked(self, session: Session) -> Outcome:
        kind = Fault.REFUSED if self._missed else Fault.NONE
        self._missed = max(0, self._missed - 1)
        return Outcome(session, (Verdict(kind, ""),), ((),), 0.0)


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Session], Fault]], Played]:
    def start(kind: Callable[[Session], Fault]) -> Played:
        played = Played(kind)
        played.serve(monkeypatch)
        return played

    return start


Play = Callable[[Callable[[Session], Fault]], Played]


def made() -> Checks:
    connector = Connector(HERE, HERE.addresses()[0])
    return Checks(connector, KNOWN, availability_of(connector, KNOWN))


def long(session: Session) -> Fault:
    size = sum(len(conversation.payload) for conversation in session.conversations)
    return Fault.CORRUPT if size >= 4096 else Fault.NONE


def test_a_drawn_failure_is_shrunk_once(play: Play) -> None:
    played, checked = play(long), made()
    failed = checked.check_drawn(Session.parse("send 61*9000; await; send 62; fin"), ())
    assert isinstance(failed, Failed)
    assert str(failed.outcome.session) == "send 00*4096"
    assert failed.reproduced == failed.runs > 0
    runs = len(played.runs)
    # From here on, nothing is run: it contains the failure, or it is not examined.
    again = checked.check_drawn(Session.parse("send 61*4096; fin"), ())
    assert isinstance(again, Failed)
    assert again.outcome.session == failed.outcome.session
    assert checked.check_drawn(Session.parse("send 61*4095"), ()) is None
    assert len(played.runs) == runs


def test_a_failure_that_is_not_drawn_is_not_shrunk(play: Play) -> None:
    played, checked = play(long), made()
    session = Session.parse("send 61*9000; fin")
    failed = checked.check(session, ())
    assert isinstance(failed, Failed)
    assert failed.outcome.session == session
    assert isinstance(checked.check(Session.parse("send 61"), ()), Outcome)
    assert len(played.runs) == 2


@pytest.mark.parametrize("name", ["check", "check_drawn"])
def test_a_stall_that_does_not_recur_is_no_failure(play: Play, name: str) -> None:
    moments = iter([Fault.STALLED])
    played, checked = play(lambda session: next(moments, Fault.NONE)), made()
    found = getattr(checked, name)(Session.parse("send 61; fin"), ())
    assert isinstance(found, Outcome)
    assert found.ok
    assert checked.ignored_stalls == 1
    assert len(played.runs) > 1
    # The next one is as patient as the first.
    played.patient = 0
    getattr(checked, name)(Session.parse("send 62"), ())
    assert played.patient == 1


@pytest.mark.parametrize("name", ["check", "check_drawn"])
def test_a_stall_that_recurs_is_a_failure(play: Play, name: str) -> None:
    play(lambda session: Fault.STALLED)
    assert isinstance(getattr(made(), name)(Session.parse("send 61; fin"), ()), Failed)


def test_a_server_that_is_restarted_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    Crashing(restarts=1000).serve(monkeypatch)
    checked = made()
    failed = checked.check_drawn(Session.parse("send 61 ff*3 62; await; send 62; fin"), ())
    assert isinstance(failed, Failed)
    assert str(failed.outcome.session) == "send ff"
    assert failed.reproduced == failed.runs > 0
    assert failed.away > 0
    assert "; after it the path was away for up to " in message(HERE, failed, as_session=False)


@pytest.mark.parametrize("name", ["check", "check_drawn"])
def test_what_follows_a_crash_is_not_accused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Crashing(restarts=1000).serve(monkeypatch)
    one = made()
    assert isinstance(one.check(Session.parse("send ff"), ()), Failed)
    for _ in range(3):
        found = getattr(one, name)(Session.parse("send 61"), ())
        assert isinstance(found, Outcome)
        assert found.ok


@pytest.mark.parametrize("restarts", [0, 1, 3, 6])
@pytest.mark.parametrize("name", ["check", "check_drawn"])
def test_a_server_that_is_not_restarted_any_more(
    name: str, restarts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.availability._REVIVAL_SECONDS", 0.1)
    Crashing(restarts).serve(monkeypatch)
    checked = made()
    session = Session.parse("send 61 ff 62")
    failed = checked.check_drawn(session, ())
    assert isinstance(failed, Failed)
    assert b"\xff" in failed.outcome.session.conversations[0].payload
    assert failed.outcome.kind is Fault.RESET
    said = "nothing has worked since an experiment ("
    assert failed.remark.startswith(said)
    assert said in message(HERE, failed, as_session=False)
    # Drawn again, it fails again.
    assert checked.check_drawn(session, ()) == failed
    # What follows says so, too.
    found = checked.check(Session.parse("send 61"), ())
    assert isinstance(found, Failed)
    assert found.outcome.kind is Fault.REFUSED
    assert found.remark.startswith(said)


def test_excluded_kinds_are_no_failure(play: Play) -> None:
    play(lambda session: Fault.NEVER_CLOSED)
    for check in (made().check, made().check_drawn):
        found = check(Session.parse("fin"), {Fault.NEVER_CLOSED})
        assert isinstance(found, Outcome)
        assert found.ok


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> EchoTarget:
    """A target whose preflight is known, without a network."""
    target = EchoTarget(HERE)
    path = (Connector(HERE, HERE.addresses()[0]), KNOWN)
    monkeypatch.setattr(target, "_path", path)
    return target


@pytest.fixture(autouse=True)
def test_of_its_own() -> Iterator[None]:
    """A memory that does not last until the test has ended."""
    with running_test.begin():
        yield


@pytest.mark.parametrize("seed_", range(3))
def test_hypothesis_ends_with_the_same_shortest(play: Play, echo: EchoTarget, seed_: int) -> None:
    play(long)
    drawn: list[Conversation] = []

    @seed(seed_)
    @settings(database=None, deadline=None, phases=[Phase.generate, Phase.shrink])
    @given(conversations())
    def test(conversation: Conversation) -> None:
        drawn.append(conversation)
        echo.check(conversation)

    with pytest.raises(AssertionError, match=r"send 00\*4096") as raised:
        test()
    # What Hypothesis shows at last is what the message shows.
    assert str(drawn[-1]) == "send 00*4096"
    assert 'pin:     @example(Conversation.parse("send 00*4096"))' in str(raised.value)


def test_a_failure_in_one_test_changes_nothing_for_another(play: Play, echo: EchoTarget) -> None:
    played = play(long)

    @settings(database=None, deadline=None, max_examples=20)
    @given(conversations())
    def test(conversation: Conversation) -> None:
        echo.check(conversation)

    with running_test.begin(), pytest.raises(AssertionError):
        test()
    with running_test.begin():
        played.kind = lambda session: Fault.NONE
        played.runs.clear()
        played.patient = 0
        test()
    # Each is run, with the long timeout.
    assert played.patient == len(played.runs) >= 20


def test_the_name_of_a_kind_is_checked(echo: EchoTarget) -> None:
    with pytest.raises(ValueError, match=r"'never-close'; must be of corrupt, .*never-closed"):
        echo.check("fin", exclude=["never-close"])
    with pytest.raises(ValueError, match="'ok'"):
        EchoTarget(HERE, exclude=["ok"])


def test_a_target_excludes_kinds_for_all_its_checks(
    play: Play, echo: EchoTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(lambda session: Fault.NEVER_CLOSED)
    tolerant = EchoTarget(HERE, exclude=["never-closed"])
    monkeypatch.setattr(tolerant, "_path", echo._path)
    assert tolerant.check("fin").ok
    assert echo.check("fin", exclude="never-closed").ok
    with pytest.raises(AssertionError, match="never-closed: played"):
        echo.check("fin")


@pytest.mark.parametrize(
    "script", ["; ".join(["send 61*70"] * 300), " | ".join(["send 61; await; send 62; fin"] * 100)]
)
def test_a_message_is_short(right_connector: Connector, script: str) -> None:
    outcome = run(Session.parse(script), right_connector, Limits(5.0, half_close=True))
    assert outcome.ok
    wrong = Verdict(Fault.CORRUPT, "wrong", 400, 400, 200, 0, bytes(400), b"a" * 400)
    verdicts = (wrong,) * len(outcome.verdicts)
    failed = Failed(dataclasses.replace(outcome, verdicts=verdicts), 1, 2)
    lines = message(HERE, failed, as_session=False).splitlines()
    assert len(lines) < 45
    assert max(len(line) for line in lines if not line.startswith(("replay:", "pin:"))) < 200


def test_a_pin_fits_the_argument(play: Play, echo: EchoTarget) -> None:
    play(long)
    pinned: list[tuple[Conversation | Session | str, str]] = [
        (Conversation((Send(bytes(4096)),)), "Conversation"),
        (Session.parse("send 00*4096"), "Session"),
        ("send 00*4096 | nothing", "Session"),
    ]
    for script, name in pinned:
        with pytest.raises(AssertionError) as raised:
            echo.check(script)
        assert f"pin:     @example({name}.parse(" in str(raised.value)


@pytest.mark.parametrize("script", [b"abc", 5, None, Send(b"abc")])
def test_what_is_no_conversation(script: object) -> None:
    with pytest.raises(TypeError, match=f"is needed, not {type(script).__name__}"):
        EchoTarget(HERE).check(script)  # type: ignore[arg-type]
