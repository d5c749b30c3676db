"""The listener of ``--listen``: an endpoint string, opened as ``--port`` is.

Twisted parses the string: its own kinds of endpoints, and those of plug-ins. In the end
each calls its reactor's ``listenTCP``, ``listenSSL``, ``listenUNIX`` or
``adoptStreamPort``. The reactor that it gets here opens the sockets in our way: with our
backlog, unless the string names one, with the clamp, and with our choice of
``SO_REUSEADDR`` and ``SO_REUSEPORT``.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from echoproto.net import tls_endpoint
from echoproto.net.bind_errors import explain, text_of
from echoproto.net.endpoint_strings import full_form, parse_endpoint
from echoproto.net.ports import NotListeningError, adopt, listen_now
from echoproto.net.string_errors import explain_parse_error
from echoproto.net.tcp_endpoint import TCPEndpoint, clamped
from echoproto.net.tls_endpoint import TLSEndpoint
from echoproto.net.tls_settings import NO_DEMANDS, TLSFileError, TLSSettings
from echoproto.net.unix_ports import UNIXPort, check_mode, unix_name

# The forms of a string, by the kind that it begins with.
_FORMS = {
    "tcp": "tcp:PORT[:interface=ADDRESS][:backlog=N]",
    "tcp6": "tcp6:PORT[:interface=ADDRESS][:backlog=N]",
    **tls_endpoint.FORMS,
    "unix": "unix:PATH[:mode=660][:backlog=N][:lockfile=0], or unix:@NAME in Linux's abstract "
    "namespace",
    "systemd": "systemd:domain=INET:index=0, or name=NAME, one of the sockets in LISTEN_FDS "
    "and LISTEN_FDNAMES",
}
_REFUSED = {
    "stdio": "serves standard input, not clients",
    "haproxy": "loses what a client sends right before it closes its sending side",
}

# The number of values without a name up to the backlog, by kind; and the backlog that
# Twisted passes on if the string has none.
_BACKLOG_PLACE = {"tcp": 3, "tcp6": 2, "ssl": 6, "tls": 3, "unix": 3}
_TWISTED_BACKLOG = 50


class ListenError(Exception):
    """An endpoint string that is wrong, or that cannot be listened on.

    :ivar description: the string, or the value of the option.
    :ivar reason: what is wrong with it.
    :ivar allowed: what would work.
    :ivar option: the option with a file that the listener cannot use, if it is that.
    """

    def __init__(
        self, description: str, reason: str, allowed: str, option: str | None = None
    ) -> None:
        super().__init__(f"{description}: {reason}; allowed: {allowed}")
        self.description = description
        self.reason = reason
        self.allowed = allowed
        self.option = option


@implementer(IStreamServerEndpoint)
class StringEndpoint:
    """A listener that an endpoint string describes.

    :ivar tls: what clients of ``ssl:`` and ``tls:`` need.
    """

    def __init__(
        self,
        reactor: Any,
        description: str,
        *,
        backlog: int = 1024,
        reuse_address: bool = True,
        reuse_port: bool = False,
        inherited: int | None = None,
        tls: TLSSettings = NO_DEMANDS,
        material: Any = None,
    ) -> None:
        """Parse the string, and load the files that it names; nothing is opened yet.

        :param reactor: to listen with.
        :param description: as ``twisted.internet.endpoints.serverFromString`` takes it, or
            a short form; see :func:`echoproto.net.endpoint_strings.full_form`.
        :param backlog: length of the accept queue, in connections, if the string names none.
        :param reuse_address: see :class:`echoproto.TCPEndpoint`.
        :param reuse_port: see there.
        :param inherited: the descriptor of a socket that was opened for this string
            before. It is used once, instead of the socket that the string describes.
        :param tls: what clients of ``ssl:`` and ``tls:`` need.
        :param material: what another endpoint of the same string has loaded; see
            :attr:`material`.
        :raises ListenError: if the string is wrong, or a file that it names.
        """
        self._given = description
        description = full_form(description)
        self.tls = tls
        self._description = description
        self._sockets = _Sockets(
            reactor, description, backlog, reuse_address, reuse_port, inherited
        )
        self._endpoint = _parse(self._sockets, description, tls, material)
        self._count: int | None = None

    @property
    def backlog(self) -> int | None:
        """The length of the accept queue that was asked for, once it listens.

        ``None`` for a socket that another process has opened.
        """
        return self._sockets.backlog

    @property
    def wrapper(self) -> str | None:
        """The string, once it listens, if it adds a layer to the connections, as TLS.

        Else ``None``: the connections are those of the socket.
        """
        return self._sockets.wrapper

    @property
    def material(self) -> Any:
        """What ``ssl:`` and ``tls:`` have loaded, and replace at a reload; else ``None``.

        An endpoint for another socket, with the same string, can share it.
        """
        return self._endpoint.material if isinstance(self._endpoint, TLSEndpoint) else None

    def reload(self) -> str | None:
        """Load the certificates of ``ssl:`` or ``tls:`` again, for new connections.

        :returns: what was loaded, in words; ``None`` for the other kinds.
        :raises ListenError: if a file cannot be used; then nothing changes.
        """
        if not isinstance(self._endpoint, TLSEndpoint):
            return None
        try:
            return f"{self._description}: {self._endpoint.reload()}"
        except Exception as error:
            raise _wrong(self._description, error, self.tls) from None

    def flush(self) -> None:
        """Log now what would be summed up later."""
        if isinstance(self._endpoint, TLSEndpoint):
            self._endpoint.flush()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen.

        :returns: a Deferred of the port; or of a failure with :class:`ListenError`.
        """
        self._sockets.begin(protocolFactory, self._count)
        listening: Deferred[Any] = maybeDeferred(self._endpoint.listen, protocolFactory)
        return listening.addErrback(self._failed)

    def listen_many(self, factory: IProtocolFactory, count: int) -> list[IListeningPort]:
        """Open sockets for several processes: one for each with TCP, else one for all.

        :param factory: for the connections of all sockets.
        :param count: the number of processes.
        :raises ListenError: as with :meth:`listen`; also if the endpoint of a plug-in does
            not listen at once.
        """
        self._count = count
        try:
            port = listen_now(self, factory)
        except NotListeningError as error:
            raise ListenError(
                self._description, f"{error}, as workers need it", "--workers 1"
            ) from None
        return self._sockets.ports or [port]

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            return failure
        kind = parse_endpoint(self._description).kind
        return Failure(_cannot_listen(self._given, kind, failure.value))


class _Sockets:
    """A reactor that opens sockets in our way; all else is that of another reactor.

    :ivar backlog: see :class:`StringEndpoint`.
    :ivar wrapper: see there.
    :ivar ports: one for each process, if there are several.
    """

    def __init__(
        self,
        reactor: Any,
        description: str,
        backlog: int,
        reuse_address: bool,
        reuse_port: bool,
        inherited: int | None,
    ) -> None:
        self._reactor = reactor
        self._description = description
        self._our_backlog = backlog
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port
        self._inherited = inherited
        self._named_backlog = names_backlog(description)
        directlyProvides(self, providedBy(reactor))
        self.begin(None, None)

    def begin(self, factory: IProtocolFactory | None, count: int | None) -> None:
        """Begin to listen.

        :param factory: what the endpoint is given, and may wrap.
        :param count: the number of processes, if there are several.
        """
        self._factory = factory
        self._count = count
        self.ports: list[IListeningPort] = []
        self.backlog: int | None = None
        self.wrapper: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(  # noqa: N802
        self, port: Any, factory: Any, backlog: int = _TWISTED_BACKLOG, interface: str = ""
    ) -> Any:
        """See ``IReactorTCP``."""
        asked = self._choose_backlog(factory, backlog)
        if self._inherited is not None:
            return adopt(self._reactor, self._inherited, factory)
        if not isinstance(port, int):
            # A plug-in with a choice of its own (``tcp.makeBinding``).
            return self._reactor.listenTCP(port, factory, clamped(asked), interface)
        if not 0 <= port <= 65535:
            raise ValueError("port out of range")
        endpoint = TCPEndpoint(
            self._reactor,
            port,
            interface or "0.0.0.0",
            backlog=asked,
            reuse_address=self._reuse_address,
            reuse_port=self._reuse_port,
        )
        if self._count is None:
            return endpoint.open(factory)
        self.ports = endpoint.listen_many(factory, self._count)
        return self.ports[0]

    def listenSSL(  # noqa: N802
        self,
        port: Any,
        factory: Any,
        contextFactory: Any,  # noqa: N803
        backlog: int = _TWISTED_BACKLOG,
        interface: str = "",
    ) -> Any:
        """See ``IReactorSSL``."""
        from twisted.protocols.tls import TLSMemoryBIOFactory

        over_tls = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, over_tls, backlog, interface)

    def listenUNIX(  # noqa: N802
        self,
        address: str,
        factory: Any,
        backlog: int = _TWISTED_BACKLOG,
        mode: int = 0o666,
        wantPID: bool = False,  # noqa: N803
    ) -> Any:
        """See ``IReactorUNIX``."""
        asked = self._choose_backlog(factory, backlog)
        if self._inherited is not None:
            return adopt(self._reactor, self._inherited, factory)
        name = unix_name(address)
        port = UNIXPort(name, factory, clamped(asked), mode, self._reactor, wantPID)
        port.startListening()
        return port

    def adoptStreamPort(  # noqa: N802
        self,
        fileDescriptor: int,  # noqa: N803
        addressFamily: int,  # noqa: N803
        factory: Any,
    ) -> Any:
        """See ``IReactorSocket``; the family is read from the socket."""
        self._choose_backlog(factory, _TWISTED_BACKLOG)
        self.backlog = None
        # The caller closes its descriptor afterwards.
        own = os.dup(fileDescriptor) if self._inherited is None else self._inherited
        return adopt(self._reactor, own, factory)

    def _choose_backlog(self, factory: IProtocolFactory, backlog: int) -> int:
        """Choose the backlog, and note whether the endpoint has wrapped the factory."""
        self.wrapper = None if factory is self._factory else self._description
        named = self._named_backlog or backlog != _TWISTED_BACKLOG
        self.backlog = backlog if named else self._our_backlog
        return self.backlog


def names_backlog(description: str) -> bool:
    """Return whether an endpoint string names the length of the accept queue.

    Twisted's parser does not tell: the backlog that it passes on may be its default.

    :param description: the string.
    """
    parsed = parse_endpoint(description)
    place = _BACKLOG_PLACE.get(parsed.kind)
    return "backlog" in parsed.named or (place is not None and len(parsed.unnamed) >= place)


def _parse(reactor: Any, description: str, tls: TLSSettings, material: Any) -> Any:
    """Return the endpoint for a string; raise :class:`ListenError` if it is wrong."""
    described = parse_endpoint(description)
    kind = described.kind
    if kind in _REFUSED:
        instead = "--proxy-protocol with any other" if kind == "haproxy" else ", ".join(_FORMS)
        raise ListenError(description, f"{kind}: {_REFUSED[kind]}", instead)
    known = sorted({*_FORMS, *_plugins()} - set(_REFUSED))
    if kind not in known:
        kinds = ", ".join(f"{each}:" for each in known)
        raise ListenError(description, "no such kind of endpoint", kinds)
    if (len(description) - len(description.rstrip("\\"))) % 2:
        raise ListenError(description, "ends in a backslash", _form(kind))
    if kind in tls_endpoint.FORMS and not _has_tls():
        allowed = f"{_form(kind)}, after: pip install 'echoproto[tls]'"
        raise ListenError(description, "needs pyOpenSSL", allowed)
    try:
        if kind in tls_endpoint.FORMS:
            return TLSEndpoint(reactor, described, tls, material)
        if kind == "unix":
            check_mode(parse_endpoint(description))
        return serverFromString(reactor, description)
    except Exception as error:
        # Twisted's parser lets any exception through.
        raise _wrong(description, error, tls) from None


def _form(kind: str) -> str:
    return _FORMS.get(kind, f"what the plug-in for {kind}: takes")


def _wrong(description: str, error: Exception, tls: TLSSettings) -> ListenError:
    """Say what is wrong with a string, or with a file that it names."""
    if isinstance(error, TLSFileError):
        if error.path == tls.client_ca:
            return ListenError(error.path, error.reason, error.allowed, "tls-client-ca")
        return ListenError(description, str(error), error.allowed)
    kind = parse_endpoint(description).kind
    return ListenError(description, explain_parse_error(error, kind), _form(kind))


def _plugins() -> set[str]:
    return {plugin.prefix.lower() for plugin in getPlugins(IStreamServerEndpointStringParser)}


def _has_tls() -> bool:
    try:
        import twisted.internet.ssl  # noqa: F401
    except ImportError:
        return False
    return True


def _cannot_listen(description: str, kind: str, error: BaseException | None) -> ListenError:
    """Say why a string that is right cannot be listened on, with the string as it was given."""
    found = explain(error, kind)
    if found is not None:
        reason = found.reason
        if reason.startswith("does not resolve"):
            reason = f"the {found.subject} {reason}"
        return ListenError(description, reason, found.allowed)
    return ListenError(description, text_of(error), _FORMS.get(kind, "what it can open"))
