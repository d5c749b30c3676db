"""Hypothesis strategies for payloads, conversations and sessions.

What is drawn, and how often, is decided by the recipes. Hypothesis then sees it as many small
numbers (see ``choices.py``), which it can lower and leave out one by one. So a failure shrinks
to the shortest, although most of what is drawn comes from a recipe.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TypeVar

from hypothesis import Phase, settings
from hypothesis.internal.conjecture.data import ConjectureData
from hypothesis.strategies import SearchStrategy

from echoproto.probe.script.choices import (
    Draw,
    decode_conversation,
    decode_payload,
    decode_session,
    encode_conversation,
    encode_payload,
    encode_session,
)
from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.script.recipes import Recipes

__all__ = ["conversations", "payloads", "sessions"]

# More than any recipe has, so that all its numbers are read.
_MAX_SIZE = 1 << 22

_T = TypeVar("_T")

# ``forced`` is not in Hypothesis's public interface, and nothing public does the same: a number
# that is known when drawn, and free to shrink later. Should it go away, a recipe's session is
# drawn as one piece: just as likely, and as long as it was drawn.
_CAN_FORCE = "forced" in inspect.signature(ConjectureData.draw_integer).parameters


class _FromRecipes(SearchStrategy[_T]):
    """Draws what a recipe makes, as numbers that can be shrunk.

    With a recipe, all numbers are forced: Hypothesis notes them and cannot change them. While
    it shrinks, it tries False for whether there is a recipe, and keeps the numbers: the same
    session, but from then on it may change each of them.

    Where Hypothesis is not going to shrink, as in the fuzz phase, it gets only the seed: to it each
    number costs more than the echo costs the network. And whether there is a recipe is decided
    by the seed, because of a boolean of its own Hypothesis begins with many that are empty.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[Random], _T],
        encode: Callable[[_T], Iterator[int]],
        decode: Callable[[Draw], _T],
    ) -> None:
        super().__init__()
        self._name = name
        self._make = make
        self._encode = encode
        self._decode = decode

    def __repr__(self) -> str:
        return f"{self._name}()"

    def do_draw(self, data: ConjectureData) -> _T:
        """Draw a value; Hypothesis calls this."""
        seed = data.draw_bytes(8, 8)
        shrinks = _shrinks()
        recipe = data.draw_boolean(_RECIPES) if shrinks else seed[0] < 256 * _RECIPES
        if not recipe:
            return self._decode(lambda high: data.draw_integer(0, high))
        made = self._make(Random(seed))
        if not (shrinks and _CAN_FORCE):
            return made
        numbers = self._encode(made)
        return self._decode(lambda high: data.draw_integer(0, high, forced=next(numbers)))


def _shrinks() -> bool:
    """Return whether Hypothesis is to shrink what fails, in the test that it runs."""
    current = settings.default
    return current is None or Phase.shrink in current.phases


# The others are drawn by Hypothesis alone, which finds what no recipe has.
_RECIPES = 0.97


def payloads(
    tokens: Sequence[bytes] = (), sizes: Sequence[int] = (), max_size: int = 65540
) -> SearchStrategy[bytes]:
    """Return a strategy for bytes to send, at least one.

    Args:
        tokens: byte strings to draw in addition to :data:`TOKENS`, as often as all of those
            together.
        sizes: sizes to draw in addition to :data:`BOUNDARIES`, as often as all of those
            together.
        max_size: the maximum size of a payload, in bytes.
    """
    recipes = Recipes(tokens, sizes)
    return _FromRecipes(
        "payloads",
        lambda rng: recipes.payload(rng, max_size),
        encode_payload,
        lambda draw: decode_payload(draw, max_size),
    )


def conversations(
    tokens: Sequence[bytes] = (),
    sizes: Sequence[int] = (),
    half_close: bool = True,
) -> SearchStrategy[Conversation]:
    """Return a strategy for one conversation.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: whether to draw ``fin``, which is useless where it is known to fail.
    """
    return _FromRecipes(
        "conversations",
        Recipes(tokens, sizes, half_close).conversation,
        encode_conversation,
        lambda draw: decode_conversation(draw, _MAX_SIZE, half_close),
    )


def sessions(
    tokens: Sequence[bytes] = (),
    sizes: Sequence[int] = (),
    half_close: bool = True,
    parallel: int = 64,
) -> SearchStrategy[Session]:
    """Return the strategy of the fuzz phase: mostly one conversation, sometimes several.

    Args:
        tokens: as for :func:`payloads`.
        sizes: as for :func:`payloads`.
        half_close: as for :func:`conversations`.
        parallel: the maximum number of simultaneous conversations; with 1 there are no
            sessions of several.
    """
    return _FromRecipes(
        "sessions",
        Recipes(tokens, sizes, half_close, parallel).session,
        lambda session: encode_session(session, parallel),
        lambda draw: decode_session(draw, _MAX_SIZE, half_close, parallel),
    )
