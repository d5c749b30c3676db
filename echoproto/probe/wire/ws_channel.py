"""A channel over WebSocket (RFC 6455): the payloads of its messages are the bytes.

The framing is wsproto's. A Close frame is EOF. It ends both directions, so that there is no
half-close.
"""

from __future__ import annotations

import contextlib

import wsproto
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from echoproto.probe.wire.channel import NOT_NOW, Channel, HandshakeError, Layer
from echoproto.probe.wire.place import Place
from echoproto.probe.wire.reasons import reason

__all__ = ["WsChannel"]

_READ = 65536
# A message of its own for each write, up to this size.
_MESSAGE = 65536


class WsChannel(Layer):
    """WebSocket on top of another channel.

    Args:
        below: the connection to the server.
        place: what is asked for.
    """

    def __init__(self, below: Channel, place: Place) -> None:
        super().__init__(below)
        self.whole_reads = False
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._place = place
        self._asked = False
        self._open = False
        self._eof = False
        self._received = bytearray()
        self.send = self._send
        self.recv = self._recv

    @property
    def pending(self) -> bool:
        return bool(self._received) or self._eof

    def peer(self) -> str:
        return "WebSocket handshake"

    def shake(self) -> bool:
        if not self._asked:
            self._asked = True
            host = str(Place("ws", self._place.host, self._place.port)).removeprefix("ws://")
            self.unsent += self._connection.send(Request(host=host, target=self._place.path))
        try:
            self.flush()
            while not self._open:
                self._take(self.below.recv(_READ))
                if self._eof and not self._open:
                    raise HandshakeError("no WebSocket: the server closed the connection")
        except NOT_NOW:
            return False
        except HandshakeError:
            raise
        except ProtocolError as error:
            raise HandshakeError(f"no WebSocket: {_why(error)}") from None
        except OSError as error:
            raise HandshakeError(f"no WebSocket: {reason(error)}") from None
        return True

    def _send(self, data: bytes | memoryview) -> int:
        self.flush()
        if self.unsent:
            raise BlockingIOError
        if self._eof:
            raise BrokenPipeError("WebSocket: the other side has closed")
        message = bytes(data[:_MESSAGE])
        self.unsent = self._connection.send(BytesMessage(data=message))
        self.flush()
        return len(message)

    def _recv(self, size: int) -> bytes:
        while not self._received and not self._eof:
            try:
                self._take(self.below.recv(_READ))
            except ProtocolError as error:
                raise OSError(f"WebSocket: {_why(error)}") from None
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _take(self, data: bytes) -> None:
        """Decode what was read; nothing stands for the end of the connection."""
        if not data:
            self._eof = True
            return
        self._connection.receive_data(data)
        for event in self._connection.events():
            self._handle(event)
        self.flush()

    def _handle(self, event: Event) -> None:
        if isinstance(event, BytesMessage):
            self._received += event.data
        elif isinstance(event, TextMessage):
            # Servers send a greeting so. The bytes are those of the frame.
            self._received += event.data.encode()
        elif isinstance(event, Ping):
            self.unsent += self._connection.send(event.response())
        elif isinstance(event, CloseConnection):
            self._eof = True
            with contextlib.suppress(ProtocolError):
                self.unsent += self._connection.send(event.response())
        elif isinstance(event, AcceptConnection):
            self._open = True
        elif isinstance(event, RejectConnection | RejectData):
            code = getattr(event, "status_code", "")
            raise HandshakeError(f"no WebSocket: the server answered {code}")

    def close(self) -> None:
        if self._open and not self._eof:
            with contextlib.suppress(OSError, ProtocolError):
                self.unsent += self._connection.send(CloseConnection(code=1000))
                self.flush()
        super().close()


def _why(error: ProtocolError) -> str:
    return str(error) or type(error).__name__
