from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from echoproto.probe.script.conversation import Await, Session
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.mask import Mask, MaskLayer, find_mask
from echoproto.probe.search.traits import Bytes, Data, Length, Trait
from echoproto.probe.search.trigger import Trigger
from echoproto.probe.wire.channel import Channel
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict

Path = Callable[[bytes], bytes]


def flips(*offsets: int) -> Path:
    def path(stream: bytes) -> bytes:
        return bytes(byte ^ (at in offsets) for at, byte in enumerate(stream))

    return path


def found(path: Path, shortest: str, *traits: Trait, kind: Fault = Fault.CORRUPT) -> Mask | None:
    def capture(candidate: Candidate) -> Outcome:
        assert not candidate.fin
        (conversation,) = candidate.conversations
        captured = path(conversation.payload)
        if path is one_answer and Await() in conversation.steps:
            captured = captured[: len(captured) // 2]
        return Outcome(candidate.session, (Verdict(kind, ""),), ((),), 0.0, captured=(captured,))

    return find_mask(Trigger(kind, Candidate(Session.parse(shortest)), traits), 1.0, capture)


def one_answer(stream: bytes) -> bytes:
    return flips(0)(stream)


@pytest.mark.parametrize(
    ("path", "shortest", "mask"),
    [
        (flips(0), "send 00", Mask((0,))),
        (one_answer, "send 00", Mask((0,))),
        (flips(3, 7), "send 00*4", Mask((3, 7))),
        (flips(100), "send 00*101", Mask((100,))),
        (lambda s: flips(*range(999, len(s), 1000))(s), "send 00*1000", Mask((999, 1999), 1000)),
        (lambda s: s.replace(b"a", b"b"), "send 00", None),
        (lambda s: s[1:], "send 00", None),
        (lambda s: bytes(len(s)), "send 00", None),
        (lambda s: s, "send 00", None),
    ],
)  # fmt: skip
def test_offsets_that_are_always_wrong_are_found(
    path: Path, shortest: str, mask: Mask | None
) -> None:
    size = len(Session.parse(shortest).conversations[0].payload)
    assert found(path, shortest, Data(1) if size == 1 else Length(size)) == mask


def test_what_can_be_taken_out_needs_no_mask() -> None:
    assert found(flips(0), "send 00", Bytes((b"\0",)), Data(1)) is None
    assert found(flips(0), "send 00", Data(1), kind=Fault.TRUNCATED) is None


@pytest.mark.parametrize("mask", [Mask((0, 5)), Mask((2, 5), 3)])
@pytest.mark.parametrize("size", [1, 4, 64])
def test_only_the_masked_bytes_are_shown_as_they_were_sent(mask: Mask, size: int) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        layer = MaskLayer(Channel(near), mask)
        assert layer.send(b"abc") + layer.send(b"defgh") == 8
        far.sendall(b"YYYYYYYY+")
        shown = b""
        while len(shown) < 9:
            shown += layer.recv(size)
    masked = set(mask.within(0, 8))
    sent = enumerate(b"abcdefgh")
    assert shown == bytes(b if at in masked else ord("Y") for at, b in sent) + b"+"
