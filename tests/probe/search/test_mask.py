from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.candidate import Candidate
from echoproto.probe.search.mask import Mask, MaskLayer, RestoringLayer, find_mask, layer_of
from echoproto.probe.search.traits import Bytes, Data, Length, Trait
from echoproto.probe.search.trigger import Trigger
from echoproto.probe.wire.channel import Channel
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.run import run
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.verdict import Fault, Outcome, Verdict
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import named

Stream = Callable[[bytes], bytes]

LIMITS = Limits(stall=2, half_close=False)


def flips(*offsets: int) -> Stream:
    def path(stream: bytes) -> bytes:
        return bytes(byte ^ (at in offsets) for at, byte in enumerate(stream))

    return path


def found(path: Stream, shortest: str, *traits: Trait, kind: Fault = Fault.CORRUPT) -> Mask | None:
    def capture(candidate: Candidate) -> Outcome:
        assert not candidate.fin
        (conversation,) = candidate.conversations
        captured = path(conversation.payload)
        if path in (one_answer, one_answer_less) and len(conversation.steps) > 1:
            captured = captured[: len(captured) // 2]
        return Outcome(candidate.session, (Verdict(kind, ""),), ((),), 0.0, captured=(captured,))

    return find_mask(Trigger(kind, Candidate(Session.parse(shortest)), traits), 1.0, capture)


def one_answer(stream: bytes) -> bytes:
    return flips(0)(stream)


def one_answer_less(stream: bytes) -> bytes:
    return stream[1:]


@pytest.mark.parametrize(
    ("path", "shortest", "mask"),
    [
        (flips(0), "send 00", Mask((0,))),
        (one_answer, "send 00", Mask((0,))),
        (flips(3, 7), "send 00*4", Mask((3, 7))),
        (flips(100), "send 00*101", Mask((100,))),
        (lambda s: flips(*range(999, len(s), 1000))(s), "send 00*1000", Mask((999, 1999), 1000)),
        (lambda s: s.replace(b"a", b"b"), "send 00", None),
        (lambda s: s[1:], "send 00", Mask((0,), lost=True)),
        (one_answer_less, "send 00", Mask((0,), lost=True)),
        (lambda s: s[:100] + s[101:], "send 00*101", Mask((100,), lost=True)),
        (lambda s: s[:-1], "send 00", None),
        (lambda s: s[100:], "send 00", None),
        (lambda s: s + b"+", "send 00", None),
        (lambda s: bytes(len(s)), "send 00", None),
        (lambda s: s, "send 00", None),
    ],
)  # fmt: skip
def test_offsets_that_are_always_wrong_are_found(
    path: Stream, shortest: str, mask: Mask | None
) -> None:
    size = len(Session.parse(shortest).conversations[0].payload)
    assert found(path, shortest, Data(1) if size == 1 else Length(size)) == mask


def test_what_can_be_taken_out_needs_no_mask() -> None:
    assert found(flips(0), "send 00", Bytes((b"\0",)), Data(1)) is None
    assert found(flips(0), "send 00", Data(1), kind=Fault.RESET) is None


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


@pytest.mark.parametrize("size", [1, 4, 64])
def test_what_is_lost_is_shown_once_what_came_before_is(size: int) -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        layer = layer_of(Mask((0, 5), lost=True))(Channel(near))
        assert isinstance(layer, RestoringLayer)
        assert not layer.pending
        assert layer.send(b"abcdefgh") == 8
        # Nothing has come back, and the first byte never does.
        assert layer.pending
        assert layer.recv(size) == b"a"
        assert not layer.pending
        far.sendall(b"bcdegh+")
        far.shutdown(socket.SHUT_WR)
        shown = b"a"
        while data := layer.recv(size):
            shown += data
    assert shown == b"abcdefgh+"


def test_what_is_lost_at_the_end_of_what_came_back_is_shown_before_eof() -> None:
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        layer = layer_of(Mask((2,), lost=True))(Channel(near))
        layer.send(b"abcd")
        far.sendall(b"ab")
        far.shutdown(socket.SHUT_WR)
        assert [layer.recv(9) for _ in range(3)] == [b"ab", b"c", b""]


def test_other_faults_of_a_path_that_loses_its_first_byte_are_seen() -> None:
    with Path(named("drop-at=0"), named("close-at-fin")) as path:
        target = Target.parse(f"127.0.0.1:{path.port}")
        connector = Connector(target, target.addresses()[0])
        connector.layers.append(layer_of(Mask((0,), lost=True)))

        def kind(session: str) -> Fault:
            return run(Session.parse(session), connector, LIMITS).verdict.kind

        assert kind("send 00; await; send 61*9000; await; send 62; await") is Fault.NONE
        assert kind("slow 100000; send 61; await; hold 20; send 62 63; await") is Fault.NONE
        # On a busy machine the second byte is back sometimes, before the path sees FIN.
        kinds = {kind("send 61 62; fin") for _ in range(10)}
    assert Fault.TRUNCATED in kinds <= {Fault.TRUNCATED, Fault.NONE}
