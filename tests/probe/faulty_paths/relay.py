"""A path of one test: the product's relay on a free loopback port, with an echo behind it.

It is served in a thread of this process, starts in about a millisecond, and leaves no socket.
"""

from __future__ import annotations

import socket
from types import TracebackType

from echoproto.probe.relay import server
from echoproto.probe.relay.fault import ChosenFault
from echoproto.probe.relay.log import Event
from echoproto.probe.relay.stage import MakeStage, Stage

#: A muted connection is dropped after this time, in milliseconds, so that a thousand of them
#: do not use up the descriptors of the test.
MUTE_MS = 10_000


class Relay(Stage):
    """A correct stage, for the faults that only one test needs; the server here is an echo."""

    def to_echo(self, data: bytes) -> None:
        """Forward."""
        self.to_server(data)

    def echo_sent(self, data: bytes) -> None:
        """The echo sent this back."""
        self.to_client(data)

    def echo_ended(self) -> None:
        """The echo has sent everything."""
        self.end_client()

    def server_sent(self, data: bytes) -> None:
        self.echo_sent(data)

    def server_ended(self) -> None:
        self.echo_ended()


class Path:
    """A listening relay on a free loopback port, from ``with`` to the end of the block.

    :param faults: what it does wrong, from the client to the echo: of the product by name, or a
        stage of the test's own.
    :param events: where its events are added, if anywhere.
    :param seed: decides when a fault occurs that does so in some cases.
    """

    def __init__(
        self,
        *faults: ChosenFault | MakeStage,
        events: list[Event] | None = None,
        seed: int = 862,
    ) -> None:
        chosen = [
            fault if isinstance(fault, ChosenFault) else ChosenFault("a fault of a test", fault)
            for fault in faults
        ]
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        observers = () if events is None else (events.append,)
        self.port: int = listener.getsockname()[1]
        self._relay = server.Relay(listener, chosen, None, observers, seed=seed, mute_ms=MUTE_MS)

    def __enter__(self) -> Path:
        self._relay.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._relay.__exit__(kind, value, trace)
