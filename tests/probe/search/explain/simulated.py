"""A path without a network: a function of the writes, as the trial of an explanation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from echoproto.probe.script.conversation import Await, Conversation, Send, Session
from echoproto.probe.search.explain.lab import Trial
from echoproto.probe.wire.comparison import first_difference, verdict_at
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

__all__ = ["Path", "failing", "simulated"]

Path = Callable[[Sequence[bytes]], bytes]
"""Returns what comes back for the writes of one connection."""


def simulated(path: Path) -> Trial:
    """Return a trial that judges what ``path`` makes of each conversation."""

    def trial(session: Session) -> Outcome:
        judged = [_judged(conversation, path) for conversation in session.conversations]
        return Outcome(
            session,
            tuple(verdict for verdict, _ in judged),
            tuple(() for _ in judged),
            0.0,
            captured=tuple(received for _, received in judged),
        )

    return trial


def _judged(conversation: Conversation, path: Path) -> tuple[Verdict, bytes]:
    stream, writes = conversation.payload, []
    for step in conversation.steps:
        if isinstance(step, Send):
            writes.append(step.payload)
        elif isinstance(step, Await) and len(received := path(writes)) < len(b"".join(writes)):
            # It waits for ever for what is missing.
            return _verdict(Fault.STALLED, stream, b"".join(writes), received), received
    received = path(writes)
    return _verdict(Fault.TRUNCATED, stream, stream, received), received


def _verdict(missing: Fault, stream: bytes, sent: bytes, received: bytes) -> Verdict:
    if received == sent:
        return Verdict(Fault.NONE, "", len(sent), len(received))
    if sent.startswith(received):
        return verdict_at(missing, "", stream, len(sent), len(received), len(received))
    kind, message, offset, got, _ = first_difference(stream, len(sent), 0, received)
    return verdict_at(kind, message, stream, len(sent), len(received), offset, got)


def failing(rule: Callable[[Session], Fault | None]) -> Trial:
    """Return a trial: where a rule names a fault, the last conversation gets nothing back."""

    def trial(session: Session) -> Outcome:
        kind = rule(session)
        verdicts, captured = [], []
        for number, conversation in enumerate(session.conversations, 1):
            stream = conversation.payload
            if kind is not None and number == len(session.conversations):
                verdicts.append(verdict_at(kind, "", stream, len(stream), 0, 0))
                captured.append(b"")
            else:
                verdicts.append(Verdict(Fault.NONE, "", len(stream), len(stream)))
                captured.append(stream)
        nothing = tuple(() for _ in verdicts)
        return Outcome(session, tuple(verdicts), nothing, 0.0, captured=tuple(captured))

    return trial
