"""What a parent and its workers say to each other, however a pipe cuts it."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from echoproto.workers.channel import Channel

members = st.dictionaries(
    st.text(min_size=1).filter(lambda name: name not in ("kind", "self")),
    st.text() | st.integers() | st.none(),
)


def sent(kind: str, **members: Any) -> bytes:
    written: list[bytes] = []
    Channel(written.append).send(kind, **members)
    return b"".join(written)


@given(st.lists(members), st.lists(st.integers(0, 400)))
def test_all_is_heard_in_order_however_it_is_cut(
    said: list[dict[str, Any]], cuts: list[int]
) -> None:
    heard: list[dict[str, Any]] = []
    channel = Channel(print)
    channel.on("this", lambda **members: heard.append(members))
    stream = b"".join(sent("this", **each) for each in said)
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in itertools.pairwise(edges):
        channel.receive(stream[start:end])
    assert heard == said


def test_each_kind_has_its_handler() -> None:
    heard: list[str] = []
    channel = Channel(print)
    channel.on("one", lambda: heard.append("one"))
    channel.on("two", lambda number: heard.append(f"two {number}"))
    channel.receive(sent("two", number=2) + sent("one"))
    assert heard == ["two 2", "one"]
