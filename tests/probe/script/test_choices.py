from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest

from echoproto.probe.script.choices import (
    Draw,
    decode_conversation,
    decode_payload,
    decode_session,
    encode_conversation,
    encode_payload,
    encode_session,
)
from echoproto.probe.script.conversation import Conversation, HalfClose, Session
from echoproto.probe.script.recipes import Recipes
from echoproto.probe.script.vocabulary import COUNTING

MAX_SIZE = 1 << 22


def replay(numbers: Iterable[int]) -> Draw:
    """Draw these numbers, then zeros; each must be allowed where it is drawn."""
    left = iter(numbers)

    def draw(high: int) -> int:
        number = next(left, 0)
        assert 0 <= number <= high
        return number

    return draw


@pytest.mark.parametrize(
    "payload",
    [
        b"\0", b"a", b"\r\0", b"\0" * 4, b"\xff" * 1001, bytes(65_541), b"a" * 200_000,
        b"ab" * 40 + b"c", bytes(range(7, 140)) * 33,
        COUNTING, COUNTING * 3, COUNTING * 3 + b"\0", COUNTING[5:] + COUNTING, bytes(range(256)),
        COUNTING * 1000, (b"\r\n" * 50_000)[:-1], b"0123456789abcdef\n" * 9000,
        b"a" * 4093 + b"\xff\xf4" + b"b" * 3, b"\0\0\0\1\2\3\4\4\4\4\5",
        bytes([255, 0, 0, 1, 2, 3]),
    ],
    ids=len,
)  # fmt: skip
def test_a_payload_is_the_same_after_the_numbers(payload: bytes) -> None:
    numbers = list(encode_payload(payload))
    assert decode_payload(replay(numbers), MAX_SIZE) == payload
    assert len(numbers) < 300


def test_a_run_that_counts_does_not_begin_again() -> None:
    """Else its last byte is lowered beyond 00, and what matters is far from the end."""
    for size in (3, 257, 1000):
        numbers = list(encode_payload(bytes(range(4))))
        numbers[2:4] = size, 1
        assert decode_payload(replay([0, *numbers[1:]]), MAX_SIZE) == bytes(size)


def test_what_recipes_make_is_the_same_after_the_numbers() -> None:
    recipes = Recipes()
    for seed in range(200):
        session = recipes.session(Random(seed))
        numbers = list(encode_session(session, 32))
        assert decode_session(replay(numbers), MAX_SIZE, True, 32) == session
        for conversation in session.conversations[:3]:
            numbers = list(encode_conversation(conversation))
            assert decode_conversation(replay(numbers), MAX_SIZE) == conversation


@pytest.mark.parametrize(
    ("text", "most"),
    [
        ("; ".join(["send 61; await"] * 130), 12),
        ("; ".join(["send 61*20 0a"] * 100), 30),
        ("send 41; fin; pause 1", 10),
        ("; ".join(["send 41 42; pause 1"] * 10 + ["send 43; reset"]), 40),
        ("; ".join(["send 41; send 41; await"] * 10), 95),
        ("send 41; await; " * 5 + "send 41; send 41", 40),
    ],
)
def test_equal_pieces_have_few_numbers(text: str, most: int) -> None:
    conversation = Conversation.parse(text)
    numbers = list(encode_conversation(conversation))
    assert decode_conversation(replay(numbers), MAX_SIZE) == conversation
    assert len(numbers) <= most


def test_any_numbers_make_a_valid_session() -> None:
    rng = Random(1)
    for _ in range(300):
        most = rng.choice((2, 8, 300))
        session = decode_session(
            lambda high, most=most: min(high, rng.choice((0, rng.randrange(most)))),  # type: ignore[misc]
            MAX_SIZE, True, 4,
        )  # fmt: skip
        assert len(session.conversations) <= 4
        assert Session.parse(str(session)) == session


def test_zeros_stand_for_the_simplest() -> None:
    assert decode_payload(replay(()), MAX_SIZE) == b"\0"
    assert decode_conversation(replay(()), MAX_SIZE) == Conversation()
    assert decode_session(replay(()), MAX_SIZE, True, 32) == Session((Conversation(),))


def test_the_limits_hold() -> None:
    runs = [0, *(257, 900) * 3, 0]
    assert decode_payload(replay(runs), 1000) == bytes(1000)
    assert decode_payload(replay((2000, 0)), 1000) == bytes(1000)
    # Numbers that never end.
    assert decode_payload(lambda high: min(high, 257), 1000) == bytes(257)
    assert len(decode_conversation(lambda high: min(high, 2), 1000).steps) == 500
    numbers = [1, 900, 0, 1, 0, 257, 900, 0, 1, 900, 0]
    sizes = len(decode_conversation(replay(numbers), 1000).payload)
    assert sizes == 1000


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((3, 3, 1, 0), "fin"),
        ((3, 1, 0, 98, 0), "fin"),
        ((1, 0, 14, 1, 0), "send 0d 00"),
        ((1, 1000, 14, 0), "send 0d 00*999"),
        ((1, 2, 98, 99, 100, 0), "send 61 62"),
        ((3, 2, 4), "fin; await; reset"),
        ((1, 0, 257, 4096, 256, 0), "send 00*4096 ff"),
        ((1, 0, 258, 5, 256, 1, 0), "send fb..ff"),
        ((1, 0, 258, 5, 11, 0, 0), "send 0a*5"),
        ((1, 0, 259, 5, 14, 11, 0, 0), "send 0d 0a 0d 0a 0d"),
        ((5, 20, 6, 1), "pause 20; slow 100000000"),
        ((8, 220, 1, 0, 14, 0), "hold 220; send 0d"),
        ((7, 1, 2, 0, 257, 5, 0, 2), "send 00 00; await; send 00 00; await; send 00; await"),
        ((7, 0, 0, 5, 0), "send 00*5"),
    ],
)
def test_what_numbers_mean(numbers: tuple[int, ...], text: str) -> None:
    assert str(decode_conversation(replay(numbers), MAX_SIZE)) == text


def test_without_half_close_there_is_no_fin() -> None:
    assert decode_conversation(replay((3, 1, 0)), MAX_SIZE, half_close=False) == Conversation()
    alone = decode_session(replay((1, 0, 0, 3, 2, 0, 0)), MAX_SIZE, False, 32)
    assert str(alone) == "send 00; await"
    several = decode_session(replay((3, 0, 1, 1, 0, 0, 0)), MAX_SIZE, False, 32)
    assert HalfClose() in several.conversations[0].steps
