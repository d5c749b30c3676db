"""Fake transports."""

from __future__ import annotations

from twisted.internet.interfaces import ISSLTransport, ITCPTransport, IUNIXTransport
from twisted.internet.testing import StringTransport
from zope.interface import implementer


@implementer(ITCPTransport)
class TCPLikeTransport(StringTransport):
    """A StringTransport with half-close and options, which records what is called."""

    def __init__(self) -> None:
        # As with a real one, reading may be resumed while it closes.
        super().__init__(lenient=True)
        self.no_delay: bool | None = None
        self.calls: list[str] = []

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.no_delay = enabled

    def getTcpNoDelay(self) -> bool:
        return bool(self.no_delay)

    def setTcpKeepAlive(self, enabled: bool) -> None:
        """Not used."""

    def getTcpKeepAlive(self) -> bool:
        return False

    def unregisterProducer(self) -> None:
        # A real one may be called any number of times.
        self.calls.append("unregisterProducer")
        self.producer = None

    def resumeProducing(self) -> None:
        self.calls.append("resumeProducing")
        super().resumeProducing()

    def loseWriteConnection(self) -> None:
        self.calls.append("loseWriteConnection")

    def loseConnection(self) -> None:
        self.calls.append("loseConnection")
        super().loseConnection()

    def abortConnection(self) -> None:
        self.calls.append("abortConnection")
        super().abortConnection()


@implementer(ISSLTransport)
class TLSLikeTransport(TCPLikeTransport):
    """TLS over TCP offers what both offer."""

    def getPeerCertificate(self) -> None:
        return None


@implementer(IUNIXTransport)
class UNIXLikeTransport(TCPLikeTransport):
    """Twisted's UNIX transport has the interfaces of a TCP transport too."""

    def setTcpNoDelay(self, enabled: bool) -> None:
        raise OSError("Operation not supported")

    def sendFileDescriptor(self, descriptor: int) -> None:
        """Not used."""
