"""The proxies of a target, as layers of a channel."""

from __future__ import annotations

import ssl

from echoproto.probe.wire.channel import Channel, Layer
from echoproto.probe.wire.proxy_channel import ProxyChannel
from echoproto.probe.wire.target import Target
from echoproto.probe.wire.tls_channel import TlsChannel
from echoproto.probe.wire.tls_context import tls_context

__all__ = ["HeaderLayer", "check_chain", "through"]


def check_chain(target: Target) -> ssl.SSLContext | None:
    """Return the TLS context for ``https://`` proxies, if there are any.

    Raises:
        TargetError: if a proxy cannot be asked for what comes next, or a file cannot be used.
    """
    for proxy, (host, _) in zip(target.via, _next_hops(target), strict=False):
        proxy.check(host)
    if any(proxy.scheme == "https" for proxy in target.via):
        return tls_context(target.ca, target.insecure)
    return None


def through(channel: Channel, target: Target, context: ssl.SSLContext | None) -> Channel:
    """Return the channel to the target through its proxies.

    Args:
        channel: the connection to the first proxy.
        target: where it leads.
        context: from :func:`check_chain`.
    """
    for proxy, (host, port) in zip(target.via, _next_hops(target), strict=False):
        if proxy.scheme == "https":
            assert context is not None
            channel = TlsChannel(channel, context, proxy.host, _ignore, f"proxy {proxy}")
        channel = ProxyChannel(channel, proxy, host, port)
    return channel


def _next_hops(target: Target) -> list[tuple[str, int]]:
    """Return what each proxy has to connect to."""
    return [*((proxy.host, proxy.port) for proxy in target.via[1:]), (target.host, target.port)]


def _ignore(version: str) -> None:
    """The version of TLS that is reported is that of the target."""


class HeaderLayer(Layer):
    """Sends a header before anything else.

    Args:
        below: what it uses.
        header: what to send.
    """

    def __init__(self, below: Channel, header: bytes) -> None:
        super().__init__(below)
        self.unsent = header

    def shake(self) -> bool:
        self.flush()
        return not self.unsent
