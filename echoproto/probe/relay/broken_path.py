"""Broken paths for the tests of a client: what the fixture ``broken_path`` makes."""

from __future__ import annotations

import contextlib
from types import TracebackType

from echoproto.probe.relay.fault import choose
from echoproto.probe.relay.faults import FAULTS
from echoproto.probe.relay.listen import listen_at
from echoproto.probe.relay.log import Event
from echoproto.probe.relay.server import Relay
from echoproto.probe.relay.upstream import to_target
from echoproto.probe.wire.target import Target

__all__ = ["BrokenPath", "BrokenPaths"]


class BrokenPath:
    """A path that listens on a free loopback port until the test ends.

    Attributes:
        host: where it listens, ``127.0.0.1``.
        port: the port.
        events: what was done to which connection, as it happens. A fault is noted before its effect
            can be seen.
    """

    def __init__(self, host: str, port: int, events: list[Event]) -> None:
        self.host, self.port, self.events = host, port, events

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def __repr__(self) -> str:
        return f"<BrokenPath {self}>"

    def acted(self) -> list[str]:
        """Return what faults have done so far, one line each."""
        return [event.as_text() for event in self.events if event.kind == "fault"]


class BrokenPaths:
    """Makes broken paths, and ends them all at the end of its ``with`` block."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> BrokenPaths:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def __call__(
        self, *faults: str, target: str | Target | None = None, seed: int = 0
    ) -> BrokenPath:
        """Start a path.

        Args:
            faults: in the order from the client to the server, each as ``--fault`` takes it:
                ``"close-at-fin"``, ``"latency=75ms"``, ``"iac-swallowed@10%"``. Without any, the
                path is right.
            target: where it leads; None for an echo.
            seed: of all that is left to chance.

        Raises:
            FaultError: if there is no such fault, or not with this argument.
            TargetError: if the target is none, or its name is unknown.
        """
        chosen = [choose(fault, FAULTS) for fault in faults]
        upstream = None if target is None else to_target(target)
        listener = listen_at("127.0.0.1:0")
        host, port = listener.getsockname()
        events: list[Event] = []
        relay = Relay(listener, chosen, upstream, (events.append,), seed=seed)
        self._stack.enter_context(relay)
        return BrokenPath(host, port, events)
