"""What the path does: to the bytes, and to what follows them."""

from __future__ import annotations

from echoproto.probe.script.conversation import Await, HalfClose, Pause, Reset, Send, Step
from echoproto.probe.search.explain.align import Edit, align, effect_of_edits, kind_of_change
from echoproto.probe.search.explain.explanation import Effect, Need, Size, Unit, Where
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.frame import POOLS, Frame, marked, text
from echoproto.probe.search.explain.lab import Lab
from echoproto.probe.wire.verdict import Action, Fault, Outcome

__all__ = ["find_effect", "find_silent", "missing_tail"]

_BY_KIND = {
    Fault.CROSS_TALK: Effect.MIXED,
    Fault.RESET: Effect.RESET,
    Fault.REFUSED: Effect.REFUSED,
    Fault.NEVER_CLOSED: Effect.NOT_CLOSED,
    Fault.DELAYED: Effect.DELAYED,
}
# How long to wait for bytes that may only be late, in milliseconds.
_LATE_MS = 2500
_LATE_CLOSE_MS = 1500
_LITTLE_MS = 30
# More than so many bytes on top of those sent are no change of theirs.
_FLOOD = 4096
_MORE = text(20, POOLS[0], 11)


def find_effect(
    lab: Lab, frame: Frame, found: Findings, base: Outcome, richest: list[Outcome]
) -> None:
    """Find out what the path does.

    Args:
        lab: runs the experiments.
        frame: the failing session.
        found: gets the effect.
        base: the outcome of the session.
        richest: other outcomes of the same fault, that with the fewest bytes first.
    """
    if base.kind in (Fault.CORRUPT, Fault.EXTRA) and len(base.verdicts) > 1:
        told = lab.run(marked(frame.session))
        if told.kind is Fault.CROSS_TALK:
            found.effect = Effect.MIXED
            return
    if base.kind in _BY_KIND:
        found.effect = _BY_KIND[base.kind]
        if found.effect is Effect.NOT_CLOSED:
            _closes_late(lab, frame, found)
        return
    triggers = [t for t in found.bytes_ if t in found.becomes and t not in found.stops]
    if triggers:
        found.effect = _effect_of_triggers(found, triggers)
        return
    outcomes = [base, *richest]
    if not missing_tail(frame, outcomes[-1]):
        sent, received = frame.streams(outcomes[-1])
        found.effect = effect_of_edits(sent, align(sent, received), received)
        if len(received) > 2 * len(sent) + _FLOOD:
            found.effect = Effect.INSERTED
        alone = not sent or (found.position is Where.START and sent[-8:] not in received)
        if alone and found.effect in (Effect.INSERTED, Effect.REPLACED):
            found.answer = received if len(received) < _FLOOD else b""
        return
    _find_effect_on_the_rest(lab, frame, found, base, outcomes)


def missing_tail(frame: Frame, outcome: Outcome) -> Edit | None:
    """Return the part that is missing at the end, if nothing else is wrong."""
    sent, received = frame.streams(outcome)
    if len(received) < len(sent) and sent.startswith(received):
        return Edit(len(received), len(sent), b"")
    return None


def _effect_of_triggers(found: Findings, triggers: list[bytes]) -> Effect:
    effects = [kind_of_change(t, found.becomes[t]) for t in triggers if found.becomes[t] != t]
    common = set(effects)
    if len(common) == 1:
        return effects[0]
    return Effect.REPLACED if effects else Effect.DELETED


def _find_effect_on_the_rest(
    lab: Lab, frame: Frame, found: Findings, base: Outcome, outcomes: list[Outcome]
) -> None:
    if {Need.FIN, Need.SLOW_READER, Need.HOLD} & set(found.needs):
        found.effect = Effect.TRUNCATED if base.kind is Fault.TRUNCATED else Effect.WITHHELD
        return
    if Need.AWAIT in found.needs and frame.conversation.steps[-1:] == (Await(),):
        found.effect = Effect.WITHHELD  # it comes with the FIN
        return
    steps = frame.without_end()
    if not any(isinstance(step, Send) for step in steps):
        found.effect = Effect.WITHHELD if base.kind is Fault.STALLED else Effect.TRUNCATED
        return
    outcome = lab.failing(frame.with_steps((*steps, Pause(_LITTLE_MS), Send(_MORE))))
    sent, _ = frame.streams(base)
    received = frame.streams(outcome)[1] if outcome is not None else sent + _MORE
    grows = _loss_grows(frame, outcomes) or bool(found.stops)
    if received.startswith(sent) and sent:
        # If waiting is enough, it was not what followed that set it free.
        held = lab.fails(frame.with_steps((*steps, Pause(_LITTLE_MS))))
        lost = Effect.TRUNCATED if grows else Effect.DELETED
        found.effect = Effect.WITHHELD if held else lost
    elif received.endswith(_MORE[4:-1]) or _MORE[4:-4] in received:
        found.effect = Effect.TRUNCATED if grows else Effect.DELETED
        found.whole = len(sent) > 1 and not frame.streams(base)[1]
    elif outcome is not None and outcome.kind is Fault.STALLED:
        found.effect, found.dead = Effect.WITHHELD, True
        _comes_late(lab, frame, found)
    elif outcome is not None and outcome.kind in (Fault.RESET, Fault.REFUSED):
        found.effect = Effect.RESET
    else:
        found.effect, found.dead = Effect.TRUNCATED, True


def _loss_grows(frame: Frame, outcomes: list[Outcome]) -> bool:
    """Return whether more is lost of more, while what comes back stays the same."""
    tails = [edit for outcome in outcomes if (edit := missing_tail(frame, outcome))]
    sizes = {edit.stop - edit.start for edit in tails}
    kept = {edit.start for edit in tails}
    return len(sizes) > 1 and len(kept) == 1 and kept != {0}


def _comes_late(lab: Lab, frame: Frame, found: Findings) -> None:
    """Find out whether what did not come back comes later."""
    if lab.tries > 1 or not lab.can_afford(2, _LATE_MS / 1000 + 0.5):
        return
    steps: list[Step] = [*frame.without_end(), Pause(_LATE_MS)]
    outcome = lab.run(frame.with_steps(steps))
    sent, received = frame.streams(outcome)
    if received.startswith(sent):
        found.effect = Effect.DELAYED
        events = outcome.timelines[frame.index]
        last = max((e.at for e in events if e.action is Action.SENT), default=0.0)
        back = max((e.at for e in events if e.action is Action.RECEIVED), default=0.0)
        found.delay_ms = round(1000 * (back - last))


def _closes_late(lab: Lab, frame: Frame, found: Findings) -> None:
    steps = list(frame.conversation.steps)
    if not isinstance(steps[-1] if steps else None, HalfClose):
        steps.append(HalfClose())
    if lab.tries > 1 or not lab.can_afford(2, _LATE_CLOSE_MS / 1000 + 0.5):
        return
    outcome = lab.run(frame.with_steps((*steps, Pause(_LATE_CLOSE_MS))))
    if outcome.ok:
        found.effect = Effect.DELAYED
        events = outcome.timelines[frame.index]
        fin = max((e.at for e in events if e.action is Action.SENT_FIN), default=0.0)
        eof = max((e.at for e in events if e.action is Action.GOT_EOF), default=0.0)
        found.delay_ms = round(1000 * (eof - fin))


def find_silent(lab: Lab, frame: Frame, found: Findings) -> None:
    """Find out what bytes change about a conversation that sends none."""
    steps = frame.conversation.steps
    end = steps[-1:] if steps and isinstance(steps[-1], Await | HalfClose | Reset) else ()
    begin = steps[: len(steps) - len(end)]
    sends = Send(_MORE)
    outcome = lab.failing(frame.with_steps((sends, *begin, *end)))
    if outcome is None:
        found.size = Size(Unit.CONNECTION, most=0)
    if found.effect is not Effect.INSERTED or Need.SEVERAL_CONNECTIONS in found.needs:
        return
    if outcome is None or Need.FIN not in found.needs:
        found.position = Where.START
    else:
        found.position = Where.END
