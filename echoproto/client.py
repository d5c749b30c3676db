"""A client of the echo service, for Twisted code."""

from __future__ import annotations

from typing import Any, NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IPushProducer,
    ISSLTransport,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echoproto.core.protocol import has_half_close

# Bytes written to the transport at a time. The transport asks for more only when it
# can send, so this is also the number of bytes copied ahead of the network.
_CHUNK = 64 * 1024


class EchoError(Exception):
    """The payload was not returned completely; ``__cause__`` is the underlying error, if any.

    :ivar received: the bytes that were returned.
    """

    def __init__(self, message: str, received: bytes = b"") -> None:
        # Both are arguments of the exception, so that it can be pickled.
        super().__init__(message, received)
        self.received = received

    def __str__(self) -> str:
        return str(self.args[0])


class EchoTimeout(EchoError, TimeoutError):  # noqa: N818 (as in "timeout")
    """The exchange took longer than the timeout."""


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class _Speaker(Protocol):
    """Sends one payload with flow control, and collects the bytes that are returned."""

    transport: Any

    def __init__(self, payload: bytes) -> None:
        self._unsent = memoryview(payload)
        self._expected = len(payload)
        self._paused = False
        self._half_close = True
        self._received: list[bytes] = []
        self._length = 0
        self.over: Deferred[bytes] = Deferred(self._abort)

    def connectionMade(self) -> None:
        transport = self.transport
        # TLS in Twisted has no half-close: the exchange ends when all bytes are returned.
        self._half_close = has_half_close(transport)
        transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        while self._unsent and not self._paused:
            chunk, self._unsent = self._unsent[:_CHUNK], self._unsent[_CHUNK:]
            self.transport.write(bytes(chunk))
        if not self._unsent:
            self.transport.unregisterProducer()
            if self._half_close:
                self.transport.loseWriteConnection()
            elif self._expected or not ISSLTransport.providedBy(self.transport):
                self._close_when_whole()

    def handshakeCompleted(self) -> None:
        """Close if the payload is empty. Closing during the handshake would abort the session."""
        self._close_when_whole()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._unsent = memoryview(b"")

    def dataReceived(self, data: bytes) -> None:
        self._received.append(data)
        self._length += len(data)
        if not self._half_close:
            self._close_when_whole()

    def _close_when_whole(self) -> None:
        if self._length >= self._expected:
            self.transport.loseConnection()

    def readConnectionLost(self) -> None:
        # If part of the payload is unsent, the server closed too early, and does not read
        # the rest.
        self.transport.unregisterProducer()
        if self._unsent:
            self.transport.abortConnection()
        else:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """Do nothing: the payload is sent."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self.over.called:
            return
        received = b"".join(self._received)
        if self._unsent or len(received) < self._expected or not reason.check(ConnectionDone):
            self.over.errback(self.incomplete(reason.getErrorMessage(), reason.value))
        else:
            self.over.callback(received)

    def incomplete(self, why: str, cause: BaseException | None = None) -> EchoError:
        received = b"".join(self._received)
        error = EchoError(f"{len(received)} of {self._expected} bytes came back: {why}", received)
        error.__cause__ = cause
        return error

    def _abort(self, over: Deferred[bytes]) -> None:
        self.transport.abortConnection()


async def echo(
    endpoint: IStreamClientEndpoint,
    payload: bytes,
    *,
    timeout: float | None = None,
    reactor: Any = None,
) -> bytes:
    """Send a payload to an echo service and return the bytes that it returns.

    The payload is sent with flow control while the answer is read, so any size
    works. Then the sending side is closed (half-close), and the answer ends when
    the server closes. TLS in Twisted has no half-close: over TLS the answer ends
    when as many bytes have been returned as were sent.

    :param endpoint: where to connect.
    :param payload: the bytes to send.
    :param timeout: seconds for the whole exchange, including the connect; ``None``
        waits without a limit.
    :param reactor: an ``IReactorTime`` for the timeout; the global one if none is given.
    :returns: the bytes that were returned, at least as many as were sent. The caller
        has to check whether they are equal to the payload.
    :raises EchoTimeout: if the exchange takes longer than the timeout.
    :raises EchoError: if the connection cannot be opened, ends before all bytes are
        returned, or ends with an error.
    """
    speaker = _Speaker(payload)

    async def exchange() -> bytes:
        try:
            await endpoint.connect(Factory.forProtocol(lambda: speaker))
        except (ConnectError, OSError) as error:
            raise EchoError(f"cannot connect: {error}") from error
        return await speaker.over

    if timeout is None:
        return await exchange()
    if reactor is None:
        from twisted.internet import reactor

    def timed_out(result: object, seconds: float) -> NoReturn:
        error = speaker.incomplete(f"no end within {seconds:g} s")
        raise EchoTimeout(str(error), error.received)

    return await Deferred.fromCoroutine(exchange()).addTimeout(timeout, reactor, timed_out)
