"""A result with one of everything, for the tests of the reports."""

from __future__ import annotations

from collections import Counter

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.observer import Observer
from echoproto.probe.search.preflight import Preflight
from echoproto.probe.search.result import CampaignResult, CaseRecord, Failure, Phase
from echoproto.probe.search.settings import Settings
from echoproto.probe.wire.verdict import Action, Event, Fault, Outcome, Verdict

#: It would run if the page did not escape it.
HOSTILE = "</td></style><script>document.title='broken'</script>&amp;\x00\x1b[31m"

MESSAGE = "byte 4096 came back as 01 instead of 00"

TARGET = ("127.0.0.1:4007", "--ca", "/etc/<b>&'\".pem")

CORRUPT = Failure(
    kind=Fault.CORRUPT,
    session=Session.parse("send 00*4097"),
    outcome=Outcome(
        session=Session.parse("send 00*4097"),
        verdicts=(
            Verdict(Fault.CORRUPT, MESSAGE, 4097, 4097, 4096, 4088, bytes(9), bytes(8) + b"\1"),
        ),
        timelines=(
            (
                Event(0.0, Action.CONNECTED),
                Event(0.0001, Action.SENT, 0, 0, 4097, bytes(64)),
                Event(0.0003, Action.RECEIVED, None, 0, 4080, bytes(64)),
                Event(0.0005, Action.RECEIVED, None, 4080, 17, bytes(16) + b"\1"),
                Event(0.0006, Action.CLOSED),
            ),
        ),
        seconds=0.0006,
    ),
    found=Session.parse("send 00*9000; await; send ff; fin"),
    found_by="E-002",
    reproduced=5,
    runs=5,
    shrink_runs=61,
    seconds=0.21,
    id="3f9a1c",
    target=TARGET,
)

CROSS_TALK = Failure(
    kind=Fault.CROSS_TALK,
    session=Session.parse("send 41 | pause 5; slow 1000; send 42"),
    outcome=Outcome(
        session=Session.parse("send 41 | pause 5; slow 1000; send 42"),
        verdicts=(
            Verdict(Fault.CROSS_TALK, "the bytes of another", 1, 2, 1, 0, b"A", b"AB"),
            Verdict(Fault.STALLED, "nothing moved for 0.05 s", 1, 0, 0, 0, b"B", b""),
        ),
        timelines=(
            (
                Event(0.0, Action.CONNECTED),
                Event(0.0001, Action.SENT, 0, 0, 1, b"A"),
                Event(0.0002, Action.RECEIVED, None, 0, 1, b"A"),
                Event(0.0063, Action.RECEIVED, None, 1, 1, b"B"),
                Event(0.05, Action.CLOSED),
            ),
            (
                Event(0.0001, Action.CONNECTED),
                Event(0.0001, Action.PAUSED, 0),
                Event(0.0052, Action.SLOWED, 1),
                Event(0.0053, Action.SENT, 2, 0, 1, b"B"),
                Event(0.0553, Action.TIMED_OUT),
                Event(0.0554, Action.CLOSED),
            ),
        ),
        seconds=0.0554,
    ),
    found=Session.parse("send 41 | pause 5; slow 1000; send 42"),
    found_by="fuzz",
    reproduced=3,
    runs=30,
    shrink_runs=0,
    seconds=0.0,
    id=None,
    target=TARGET,
)


def sample_result() -> CampaignResult:
    """Two failures, one of them flaky; a saved failure, a catalogue, a fuzz phase."""

    def record(
        phase: Phase, name: str, title: str, kind: Fault, explained_by: int | None = None
    ) -> CaseRecord:
        message = "all bytes came back" if kind is Fault.NONE else MESSAGE
        script = "send 00*9000; await; send ff; fin"
        return CaseRecord(
            phase, name, title, script, kind, message, 0.002, 9001, 9001, explained_by
        )

    return CampaignResult(
        target=TARGET,
        settings=Settings(seed=7, tokens=(b"\r\n", b"\xff"), exclude=frozenset({Fault.REFUSED})),
        preflight=Preflight("127.0.0.1 port 4007", (8e-5, 9e-5, 1e-4), 0.05, 0.5, True),
        failures=[CORRUPT, CROSS_TALK],
        records=[
            record(Phase.SAVED, "3f9a1c", "", Fault.CORRUPT, 0),
            record(Phase.CATALOGUE, "E-001", "IAC alone", Fault.NONE),
            record(Phase.CATALOGUE, "E-002", HOSTILE, Fault.CORRUPT, 0),
            record(Phase.CATALOGUE, "E-003", "refused, which is excluded", Fault.REFUSED),
            record(Phase.FUZZ, "17", "", Fault.CROSS_TALK, 1),
            record(Phase.FUZZ, "80", "", Fault.CORRUPT, 0),
        ],
        counts=Counter({Phase.SAVED: 1, Phase.CATALOGUE: 3, Phase.FUZZ: 1000, Phase.SHRINK: 105}),
        kinds=Counter({Fault.NONE: 1000, Fault.CORRUPT: 80, Fault.CROSS_TALK: 29}),
        known=1,
        transients=1,
        passing=["aa11bb"],
        bytes_sent=12_345_678,
        round_trips=[(10 ** (n % 6), (n % 17 + 1) * 1e-5) for n in range(4000)],
        phase_seconds={Phase.CATALOGUE: 0.2, Phase.FUZZ: 2.4},
        seconds=4.2,
        command="echoproto fuzz 127.0.0.1:4007 --seed 7 --html report.html",
    )


def tell(observer: Observer, result: CampaignResult) -> None:
    """Send an observer the events of a short campaign."""
    observer.phase(Phase.PREFLIGHT, None)
    observer.note("half-close survives")
    observer.phase(Phase.CATALOGUE, 3)
    for record in result.records:
        if record.phase is Phase.CATALOGUE:
            observer.record(record)
    observer.failure(result.failures[0])
    observer.phase(Phase.FUZZ, 1000)
    observer.record(result.records[-1])
