from __future__ import annotations

from echoproto.probe.wire.answers import Answers


def noted(text: str) -> Answers:
    """Connections in the order of their ends: ``1+`` was answered, ``2-`` was not."""
    answers = Answers()
    for word in text.split():
        answers.note(int(word[:-1]), word[-1] == "+")
    return answers


def test_after_how_many_connections_nothing_came_back() -> None:
    assert noted("").stopped_after is None
    assert noted("1+ 2+").stopped_after is None
    assert noted("1- 2- 3+").stopped_after is None
    assert noted("1+ 2- 3-").stopped_after == 1
    # One that was answered late, and two of which nothing was seen.
    assert noted("1+ 2+ 6- 7- 3+").stopped_after == 5
