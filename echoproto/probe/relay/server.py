"""The relay: a listener, and a relayed connection for each client."""

from __future__ import annotations

import errno
import functools
import os
import socket
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from echoproto.probe.relay.connection import Connection, Shared
from echoproto.probe.relay.fault import ChosenFault
from echoproto.probe.relay.listen import ListenError, bound_to, listen_at, remove_file
from echoproto.probe.relay.log import Event, Log
from echoproto.probe.relay.loop import READ, Loop
from echoproto.probe.relay.stage import Place, Stage, join
from echoproto.probe.relay.upstream import Upstream, to_echo

__all__ = ["Relay"]

#: How long no client is accepted when descriptors are used up, in milliseconds.
_BREATH_MS = 100
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Relay:
    """Forwards each client to a server, through faults.

    ``with Relay(...)`` serves in a thread to the end of the block; :meth:`run` serves in this one.
    An exception in the thread is raised again at the end of the block: a broken relay must not be
    taken for a broken path.

    Args:
        listener: where it accepts; the relay closes it.
        faults: in the order from the client to the server.
        upstream: connects to the server; None for an echo in this process.
        observers: called with each event, in the relay's thread.
        seed: of all that is left to chance.
        mute_ms: a connection that hangs for ever is reset after this time, in milliseconds.
        loop: runs the relay; None for one of its own.
    """

    def __init__(
        self,
        listener: socket.socket,
        faults: Sequence[ChosenFault] = (),
        upstream: Upstream | None = None,
        observers: Sequence[Callable[[Event], None]] = (),
        *,
        seed: int = 0,
        mute_ms: float = 60_000,
        loop: Loop | None = None,
    ) -> None:
        self.loop = loop or Loop()
        self.log = Log(*observers)
        self._shared = Shared(self.loop, self.log, self._die, seed, mute_ms)
        self._faults = [(fault, list[Stage](), bytearray()) for fault in faults]
        self._upstream = upstream or to_echo
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._listen(listener)

    def __enter__(self) -> Relay:
        self._thread = threading.Thread(target=self._run, daemon=True, name="relay")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.loop.stop()
        assert self._thread is not None
        self._thread.join(10)
        if self._error is not None:
            raise self._error

    def run(self) -> None:
        """Serve until :meth:`stop`; then close every connection."""
        try:
            self.loop.run()
        finally:
            self.log.end()

    def stop(self) -> None:
        """End :meth:`run`; may be called from another thread or from a signal handler."""
        self.loop.stop()

    def _run(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error

    def _die(self, ms: float | None) -> None:
        if self._listener.fileno() >= 0:  # else it is dead already
            place = bound_to(self._listener)
            remove_file(place)
            # Before the resets: a client that has seen one finds nobody listening.
            self.loop.close(self._listener)
            if ms is not None:
                self.loop.later(ms, functools.partial(self._listen_again, place))
        for connection in list(self._shared.connections):
            connection.reset("the relay has died")

    def _listen_again(self, place: str) -> None:
        try:
            self._listen(listen_at(place))
        except ListenError as error:
            self.log.tell("failed", str(error))
            self.loop.later(_BREATH_MS, functools.partial(self._listen_again, place))

    def _listen(self, listener: socket.socket) -> None:
        self._listener = listener
        listener.setblocking(False)
        self.loop.own(listener)
        self.loop.watch(listener, READ, self._accept)

    def _accept(self, events: int) -> None:
        try:
            sock, address = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self.log.tell("failed", f"cannot accept: {os.strerror(error.errno)}")
            # Clients wait in the accept queue meanwhile.
            self.loop.ignore(self._listener)
            self.loop.later(_BREATH_MS, self._accept_again)
        else:
            self._serve(sock, address)

    def _accept_again(self) -> None:
        if self._listener.fileno() >= 0:
            self.loop.watch(self._listener, READ, self._accept)

    def _serve(self, sock: socket.socket, address: object) -> None:
        number = self.log.opened + 1
        connection = Connection(self._shared, number, _named(address))
        connection.client.attach(sock)
        if not connection.client.open:
            return
        stages = [
            fault.make(Place(connection, fault.text, peers, memory, index))
            for index, (fault, peers, memory) in enumerate(self._faults)
            if fault.acts_on(connection.chance(index))
        ]
        join(stages)
        connection.pass_through(stages)
        if connection.server.open:
            self._upstream(self.loop, connection.server, connection.refuse)


def _named(address: object) -> str:
    """Return the address of a client as text; UNIX clients have no name."""
    if isinstance(address, tuple):
        host, port = address[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return "a UNIX client"
