"""A channel through a proxy."""

from __future__ import annotations

from echoproto.probe.wire.channel import NOT_NOW, Channel, HandshakeError, Layer
from echoproto.probe.wire.proxy_dialog import Dialog, dialog
from echoproto.probe.wire.reasons import reason
from echoproto.probe.wire.via import Proxy

__all__ = ["ProxyChannel"]


class ProxyChannel(Layer):
    """The connection that a proxy makes to the next host. Its bytes are not changed.

    Args:
        below: the connection to the proxy.
        proxy: which one.
        host: of what it connects to.
        port: of what it connects to.
    """

    def __init__(self, below: Channel, proxy: Proxy, host: str, port: int) -> None:
        super().__init__(below)
        self._proxy = proxy
        self._dialog: Dialog = dialog(proxy, host, port)
        self._size = 0  # of what to read next; 0 before the dialog has begun
        self._early = b""
        self.recv = self._recv

    def peer(self) -> str:
        return f"proxy {self._proxy}"

    @property
    def pending(self) -> bool:
        return bool(self._early) or super().pending

    def shake(self) -> bool:
        try:
            while True:
                self.flush()
                data = self.below.recv(self._size) if self._size else None
                if data == b"":
                    raise HandshakeError("it closed the connection")
                # None starts a generator.
                words, self._size = self._dialog.send(data)  # type: ignore[arg-type]
                self.unsent += words
        except StopIteration as end:
            self._early = end.value
            return True
        except NOT_NOW:
            return False
        except HandshakeError as error:
            raise HandshakeError(f"{self.peer()}: {error}") from None
        except OSError as error:
            raise HandshakeError(f"{self.peer()}: {reason(error)}") from None

    def _recv(self, size: int) -> bytes:
        if self._early:
            data, self._early = self._early[:size], self._early[size:]
            return data
        return self.below.recv(size)
