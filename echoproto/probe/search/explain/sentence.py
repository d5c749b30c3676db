"""An explanation in one line of plain English."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from echoproto.probe.script.words import plural
from echoproto.probe.search.explain.explanation import (
    Effect,
    Explanation,
    Need,
    Size,
    Unit,
    Where,
)
from echoproto.probe.search.explain.findings import Findings

__all__ = ["byte_list", "sentence"]

_MOST_NAMED = 6
_FEWEST_IN_A_RANGE = 4


def sentence(explanation: Explanation, found: Findings) -> str:
    """Return what an explanation says, in one line.

    Args:
        explanation: without its text.
        found: what is known beyond its fields.
    """
    what = _with_bytes(explanation, found) if explanation.bytes_ else _without(explanation, found)
    parts = [what]
    if explanation.bytes_ or explanation.effect in (Effect.INSERTED, Effect.DUPLICATED):
        parts.append(_place(explanation, found))
    if explanation.size is not None:
        parts.append(_size(explanation.size, found.passes))
    parts += _conditions(explanation, found)
    return ", ".join(part for part in parts if part)


def byte_list(sequences: Sequence[bytes]) -> str:
    """Return byte sequences in words: ``11 and 13``, ``80 to ff``, ``0d 0a``."""
    single = sorted(each[0] for each in sequences if len(each) == 1)
    words, at = [], 0
    while at < len(single):
        end = at
        while end + 1 < len(single) and single[end + 1] == single[end] + 1:
            end += 1
        if end - at + 1 >= _FEWEST_IN_A_RANGE:
            words.append(f"{single[at]:02x} to {single[end]:02x}")
            at = end + 1
        else:
            words.append(f"{single[at]:02x}")
            at += 1
    words += [each.hex(" ") for each in sequences if len(each) != 1]
    if len(words) > _MOST_NAMED:
        return f"{', '.join(words[: _MOST_NAMED - 1])} and {len(words) - _MOST_NAMED + 1} more"
    return _and(words)


def _and(words: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


_AT_BYTES = {
    Effect.RESET: "resets the connection at {}",
    Effect.REFUSED: "refuses the connection at {}",
    Effect.MIXED: "mixes up the bytes of several connections at {}",
    Effect.NOT_CLOSED: "does not close after {}",
    Effect.DELAYED: "sends {} back late",
    Effect.WITHHELD: "sends nothing back from {} on",
    Effect.REPLACED: "changes {}",
    Effect.INSERTED: "sends bytes of its own at {}",
    Effect.DUPLICATED: "doubles {}",
    Effect.REORDERED: "reorders {}",
    Effect.DELETED: "deletes {}",
}


def _with_bytes(explanation: Explanation, found: Findings) -> str:
    named, becomes = byte_list(explanation.bytes_), dict(explanation.becomes)
    effect = explanation.effect
    after = ", with the byte after it" if found.takes_next else ""
    if effect is Effect.TRUNCATED:
        stream = "the connection" if found.dead else "the write"
        return f"cuts {stream} off at {named}"
    if effect is Effect.REPLACED and found.answer:
        return f"answers {named} with {_quoted(found.answer)}"
    whole = [t for t in explanation.bytes_ if becomes.get(t)]
    if whole and effect is not Effect.DUPLICATED:
        return _turns(explanation.bytes_, whole, becomes) + after
    words = _AT_BYTES[effect].format(named)
    if effect is Effect.DELETED and not becomes:
        words = f"loses bytes at {named}"  # which of them, is not known
    if found.goes_with and not after and effect is Effect.DELETED:
        words += ", with bytes beside it"
    stops = [t for t in explanation.bytes_ if t in found.stops]
    if stops and len(stops) < len(explanation.bytes_):
        words += f" (and everything after {byte_list(stops)})"
    return words + after


def _turns(all_: Sequence[bytes], known: list[bytes], becomes: dict[bytes, bytes]) -> str:
    if len(all_) == 1:
        return f"turns {all_[0].hex(' ')} into {becomes[all_[0]].hex(' ')}"
    results = {becomes[each] for each in known}
    if len(results) == 1:
        return f"turns {byte_list(all_)} into {results.pop().hex(' ')}"
    first = known[0]
    example = f"{first.hex(' ')} into {becomes[first].hex(' ')}"
    return f"turns {byte_list(all_)} into other bytes ({example})"


def _without(explanation: Explanation, found: Findings) -> str:
    effect, where = explanation.effect, explanation.position
    if effect in (Effect.DELETED, Effect.REPLACED):
        return f"{'loses' if effect is Effect.DELETED else 'changes'} {_which(explanation, found)}"
    if effect is Effect.INSERTED:
        own = _quoted(found.answer) if found.answer else "bytes of its own"
        return f"sends {own}"
    if effect is Effect.WITHHELD:
        if where is Where.END:
            return "keeps back the last byte until more is sent"
        if _is_offset(where):
            return f"sends nothing back from {where}"
        return "stops before all bytes are back" if found.part else "sends nothing back"
    if effect is Effect.TRUNCATED:
        if Need.FIN in explanation.needs:
            lost = "the last byte is" if where is Where.END else "all bytes are"
            return f"closes before {lost} back"
        return "cuts the connection off" if found.dead else "cuts the rest off"
    if effect is Effect.DELAYED:
        return f"answers {explanation.delay_ms} ms late"
    return {
        Effect.DUPLICATED: "sends bytes twice",
        Effect.REORDERED: "sends bytes back in another order",
        Effect.RESET: "resets the connection",
        Effect.REFUSED: "refuses the connection",
        Effect.MIXED: "mixes up the bytes of several connections",
        Effect.NOT_CLOSED: "does not close",
    }[effect]


def _is_offset(where: Where | int | None) -> bool:
    return isinstance(where, int)


def _which(explanation: Explanation, found: Findings) -> str:
    where = explanation.position
    of = "of each write" if found.each_write else "of the connection"
    if isinstance(where, int):
        one = "the byte" if found.length == 1 else plural(found.length, "byte")
        return f"{one} at offset {where} {of}"
    some = "byte" if found.length == 1 else plural(found.length, "byte")
    if where is Where.START:
        return f"the first {some} {of}"
    if where is Where.END:
        return f"the last {some} of a write"
    return "the whole write" if found.whole else "bytes"


def _place(explanation: Explanation, found: Findings) -> str:
    where = explanation.position
    if isinstance(where, int):
        return f"at offset {where}"
    write = "a write" if found.each_write else "the connection"
    return {
        Where.ANYWHERE: "anywhere in the stream",
        Where.START: f"at the start of {write}",
        Where.END: "at the end of a write" if explanation.bytes_ else "at the end",
        Where.BORDER: "across the border of two writes",
        None: "",
    }[where]


_OF = {
    Unit.WRITE: "in a write of {}",
    Unit.CONNECTION: "in a connection of {}",
    Unit.RUN: "in a run of {} that are equal",
    Unit.IN_FLIGHT: "with {} in flight",
}


def _size(size: Size, tried: Iterable[int]) -> str:
    passes = sorted(set(tried))
    if size.multiple_of is not None:
        if size.unit is Unit.CONNECTION and size.least is None:
            return f"at every {size.multiple_of}th byte of the connection"
        return _OF[size.unit].format(f"any multiple of {size.multiple_of} bytes")
    if size.most == 0:
        return "if the client sends nothing"
    least, most = size.least or 1, size.most
    if most is None and size.unit is Unit.CONNECTION:
        before = f" ({least - 1} pass)" if least - 1 in passes else ""
        return f"once a connection has carried {plural(least, 'byte')}{before}"
    if most is None:
        words = f"{least} bytes or more"
    elif most == least:
        words = f"exactly {plural(least, 'byte')}"
    else:
        words = f"{least} to {most} bytes"
    beside = [max((p for p in passes if 0 < p < least), default=0)]
    beside += [min((p for p in passes if p > most), default=0)] if most is not None else []
    beside = [p for p in beside if p]
    if not beside:
        return _OF[size.unit].format(words)
    passing = "pass" if len(beside) > 1 else "passes"
    return f"{_OF[size.unit].format(words)} ({_and([str(p) for p in beside])} {passing})"


def _conditions(explanation: Explanation, found: Findings) -> list[str]:
    needs = explanation.needs
    words = []
    if Need.SEVERAL_WRITES in needs and explanation.position is not Where.BORDER:
        words.append("in the second of two writes" if found.second else "only with several writes")
    if Need.AWAIT in needs:
        words.append("when the client waits for the answer")
    if Need.PAUSE in needs:
        words.append(f"after a pause of {explanation.pause_ms} ms")
    acts = ["sends FIN"] if Need.FIN in needs else []
    if Need.SLOW_READER in needs:
        acts.append("reads slowly")
    if Need.HOLD in needs:
        acts.append(f"does not read for {explanation.hold_ms} ms")
    if acts:
        words.append(f"when the client {_and(acts)}")
    if explanation.connections is not None:
        count = explanation.connections
        words.append(f"with {count} connections at once ({count - 1} pass)")
    elif Need.SEVERAL_CONNECTIONS in needs:
        how = "in turn" if found.in_turn else "at once"
        words.append(f"with several connections {how}")
    if Need.RESET in needs:
        words.append("when a client resets its connection")
    if explanation.every is not None:
        words.append(f"on every {_nth(explanation.every)} connection")
    elif explanation.rate is not None and explanation.rate[0] < explanation.rate[1]:
        words.append(f"in {explanation.rate[0]} of {plural(explanation.rate[1], 'run')}")
    return words


def _nth(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def _quoted(data: bytes) -> str:
    shown = data[:40]
    text = shown.decode("ascii", "replace").strip("\r\n")
    if text and text.isprintable() and text.isascii():
        return f"{text!r}"
    return shown[:16].hex(" ") + (" ..." if len(data) > 16 else "")
