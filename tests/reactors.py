"""Real reactors for tests, one for each run, never installed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure

T = TypeVar("T")


def run(main: Callable[[Any], Coroutine[Any, Any, T]], reactor: Any = None) -> T:
    """Run a coroutine function with a reactor to its end.

    :param main: called with the reactor.
    :param reactor: a new one if none is given.
    :returns: the result of the coroutine.
    """
    if reactor is None:
        reactor = SelectReactor()
    outcome: list[Any] = []

    def start() -> None:
        running = Deferred.fromCoroutine(main(reactor))
        # An abort takes effect in the next turn.
        running.addBoth(outcome.append).addBoth(lambda _: reactor.callLater(0, reactor.stop))

    reactor.callWhenRunning(start)
    reactor.run(installSignalHandlers=False)
    (result,) = outcome
    if isinstance(result, Failure):
        result.raiseException()
    return result  # type: ignore[no-any-return]
