"""What ``--listen`` names: an endpoint string, whose sockets are opened as ``--port``'s are.

Twisted makes of the string what it will: its own kinds, or a plug-in's. In the end
that calls a reactor's ``listenTCP``, ``listenSSL``, ``listenUNIX`` or
``adoptStreamPort``; and the reactor that it is given here opens sockets in our
way: with our backlog, unless the string names one, with the clamp, and with our choice
of ``SO_REUSEADDR`` and ``SO_REUSEPORT``.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer, providedBy

from echoproto.net.ports import UNIXPort, adopt
from echoproto.net.tcp_endpoint import TCPEndpoint, clamped

# What a string may say, by what it begins with.
_FORMS = {
    "tcp": "tcp:PORT[:interface=ADDRESS][:backlog=N]",
    "tcp6": "tcp6:PORT[:interface=ADDRESS][:backlog=N]",
    "ssl": "ssl:PORT:privateKey=FILE:certKey=FILE[:extraCertChain=FILE][:interface=ADDRESS]"
    "[:backlog=N]",
    "tls": "tls:DIRECTORY:port=PORT[:interface=ADDRESS][:backlog=N], with PEM files in it",
    "unix": "unix:PATH[:mode=660][:backlog=N][:lockfile=0]",
    "systemd": "systemd:domain=INET:index=0, or name=NAME, of the sockets that LISTEN_FDS "
    "and LISTEN_FDNAMES tell of",
}
_REFUSED = {
    "stdio": "serves standard input, not clients",
    "haproxy": "loses what a client says right before it closes its side",
}
_COLON = r" (a colon that is part of one is written \:)"
_NEEDS_TLS = ("ssl", "tls")

# Where a backlog stands that is given without its name, the prefix being place 0;
# and what Twisted passes on where none is given.
_BACKLOG_PLACE = {"tcp": 3, "tcp6": 2, "ssl": 6, "tls": 3, "unix": 3}
_TWISTED_BACKLOG = 50


class ListenError(Exception):
    """Why an endpoint string cannot be had.

    :ivar description: the string.
    :ivar reason: what is wrong with it.
    :ivar allowed: what would have been right.
    """

    def __init__(self, description: str, reason: str, allowed: str) -> None:
        super().__init__(f"{description}: {reason}; allowed: {allowed}")
        self.description = description
        self.reason = reason
        self.allowed = allowed


@implementer(IStreamServerEndpoint)
class StringEndpoint:
    """A listener that an endpoint string describes.

    :ivar backlog: the length of the accept queue that was asked for, once it
        listens; ``None`` for a socket that somebody else has opened.
    :ivar layers: once it listens, the string, if it stands for more than a socket, as
        TLS; else ``None``.
    """

    def __init__(
        self,
        reactor: Any,
        description: str,
        backlog: int = 1024,
        reuse_address: bool = True,
        reuse_port: bool = False,
        inherited: int | None = None,
    ) -> None:
        """Parse the string; nothing is opened yet.

        :param reactor: what it would listen with.
        :param description: as ``twisted.internet.endpoints.serverFromString`` takes it.
        :param backlog: length of the accept queue where the string names none, in
            connections.
        :param reuse_address: see :class:`echoproto.TCPEndpoint`.
        :param reuse_port: see there.
        :param inherited: the descriptor of a socket that was opened for this string
            before: take that one, once, whatever the string says of sockets.
        :raises ListenError: when it is wrong.
        """
        self._description = description
        self._named_backlog = names_backlog(description)
        self._our_backlog = backlog
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port
        self._inherited = inherited
        self._reactor = reactor
        self._count: int | None = None
        self._factory: IProtocolFactory | None = None
        self._ports: list[IListeningPort] = []
        self.backlog: int | None = None
        self.layers: str | None = None
        self._endpoint = _parse(_Sockets(reactor, self), description)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:  # noqa: N803
        """Listen.

        :returns: a Deferred of the port; or of a failure with :class:`ListenError`.
        """
        self._factory = protocolFactory
        self._ports = []
        listening: Deferred[Any] = maybeDeferred(self._endpoint.listen, protocolFactory)
        return listening.addErrback(self._failed)

    def listen_many(self, factory: IProtocolFactory, count: int) -> list[IListeningPort]:
        """Open a socket for each of several processes, or, if it is not TCP, one for all.

        :param factory: for all of them.
        :param count: how many processes.
        :raises ListenError: as with :meth:`listen`; also when the endpoint, a plug-in's,
            does not listen at once.
        """
        self._count = count
        outcome: list[Any] = []
        self.listen(factory).addBoth(outcome.append)
        if not outcome:
            raise ListenError(
                self._description, "does not listen at once, as workers need it", "--workers 1"
            )
        if isinstance(outcome[0], Failure):
            outcome[0].raiseException()
        return self._ports or outcome

    def _failed(self, failure: Failure) -> Failure:
        if failure.check(CancelledError):
            return failure
        return Failure(_cannot_listen(self._description, failure.value))

    # What follows opens sockets; _Sockets calls it.

    def _ask(self, factory: IProtocolFactory, backlog: int) -> int:
        """Settle the backlog, and look at what is between the socket and the factory."""
        self.layers = None if factory is self._factory else self._description
        named = self._named_backlog or backlog != _TWISTED_BACKLOG
        self.backlog = backlog if named else self._our_backlog
        return self.backlog

    def _open_tcp(self, port: Any, factory: Any, backlog: int, interface: str) -> Any:
        asked = self._ask(factory, backlog)
        if self._inherited is not None:
            return adopt(self._reactor, self._inherited, factory)
        if not isinstance(port, int):
            # A plug-in that knows what it wants (``tcp.makeBinding``).
            return self._reactor.listenTCP(port, factory, clamped(asked), interface)
        if not 0 <= port <= 65535:
            raise ValueError("port out of range")
        endpoint = TCPEndpoint(
            self._reactor,
            port,
            interface or "0.0.0.0",
            asked,
            self._reuse_address,
            self._reuse_port,
        )
        if self._count is None:
            return endpoint.open(factory)
        self._ports = endpoint.listen_many(factory, self._count)
        return self._ports[0]

    def _open_unix(self, path: str, factory: Any, backlog: int, mode: int, lock: bool) -> Any:
        asked = self._ask(factory, backlog)
        if self._inherited is not None:
            return adopt(self._reactor, self._inherited, factory)
        if not path:
            raise ValueError("no path")
        port = UNIXPort(path, factory, clamped(asked), mode, self._reactor, lock)
        port.startListening()
        return port

    def _adopt(self, descriptor: int, factory: Any) -> Any:
        self._ask(factory, _TWISTED_BACKLOG)
        self.backlog = None
        # Twisted closes the descriptor when it has given it away.
        mine = os.dup(descriptor) if self._inherited is None else self._inherited
        return adopt(self._reactor, mine, factory)


class _Sockets:
    """A reactor, except for how it opens sockets."""

    def __init__(self, reactor: Any, endpoint: StringEndpoint) -> None:
        self._reactor = reactor
        self._endpoint = endpoint
        directlyProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(  # noqa: N802
        self, port: Any, factory: Any, backlog: int = _TWISTED_BACKLOG, interface: str = ""
    ) -> Any:
        """See ``IReactorTCP``."""
        return self._endpoint._open_tcp(port, factory, backlog, interface)

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
        return self._endpoint._open_unix(address, factory, backlog, mode, wantPID)

    def adoptStreamPort(  # noqa: N802
        self,
        fileDescriptor: int,  # noqa: N803
        addressFamily: int,  # noqa: N803
        factory: Any,
    ) -> Any:
        """See ``IReactorSocket``; the family is read from the socket."""
        return self._endpoint._adopt(fileDescriptor, factory)


def names_backlog(description: str) -> bool:
    """Tell whether an endpoint string says how long the accept queue shall be.

    Twisted's own parser does not: what it passes on may be its default.

    :param description: the string. A backslash takes the meaning from a colon or an
        equals sign.
    """
    parts = re.findall(r"(?:^|:)((?:\\.|[^:\\])*)", description, re.DOTALL)
    if any(part.startswith("backlog=") for part in parts[1:]):
        return True
    without_name = [part for part in parts if not re.match(r"(?:\\.|[^=\\])*=", part, re.DOTALL)]
    return len(without_name) > _BACKLOG_PLACE.get(_prefix(description), len(parts))


def _prefix(description: str) -> str:
    return description.partition(":")[0].lower()


def _parse(reactor: Any, description: str) -> Any:
    prefix = _prefix(description)
    if prefix in _REFUSED:
        instead = "--proxy-protocol with any other" if prefix == "haproxy" else ", ".join(_FORMS)
        raise ListenError(description, f"{prefix}: {_REFUSED[prefix]}", instead)
    known = sorted({*_FORMS, *_plugins()} - set(_REFUSED))
    if prefix not in known:
        kinds = ", ".join(f"{each}:" for each in known)
        raise ListenError(description, "no such kind of endpoint", kinds)
    form = _FORMS.get(prefix, f"what the plug-in for {prefix}: takes")
    if prefix in _NEEDS_TLS and not _has_tls():
        raise ListenError(
            description, "needs pyOpenSSL", f"{form}, after: pip install 'echoproto[tls]'"
        )
    try:
        endpoint = serverFromString(reactor, description)
        if prefix == "tls":
            _check_pem_directory(description)
    except Exception as error:
        # Twisted raises what it happens to stumble over.
        raise ListenError(description, _words(error, prefix), form) from None
    return endpoint


def _plugins() -> set[str]:
    return {plugin.prefix.lower() for plugin in getPlugins(IStreamServerEndpointStringParser)}


def _has_tls() -> bool:
    try:
        import twisted.internet.ssl  # noqa: F401
    except ImportError:
        return False
    return True


def _check_pem_directory(description: str) -> None:
    """Refuse a directory without a PEM file, with which every handshake would fail."""
    first = re.match(r"[^:]*:((?:\\.|[^:\\])*)", description, re.DOTALL)
    path = re.sub(r"\\(.)", r"\1", first[1] if first else "").removeprefix("path=")
    os.listdir(path)
    if not any(name.endswith(".pem") for _, _, names in os.walk(path) for name in names):
        raise ValueError("no *.pem file in it")


def _words(error: Exception, prefix: str) -> str:
    """Say what is wrong with a string, from what its parser raised."""
    said = str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else said
    if isinstance(error, RuntimeError):
        return "ends in a backslash"
    if prefix == "systemd" and not isinstance(error, (TypeError, ValueError)):
        return _no_such_inherited(error)
    missing = re.search(r"missing .*argument.*?: (.*)", said)
    if missing:
        return f"without {missing[1]}".replace("'", "")
    unexpected = re.search(r"unexpected keyword argument '(.*)'", said)
    if unexpected:
        return f"no such argument: {unexpected[1]}"
    if "positional argument" in said:
        return f"too many arguments{_COLON}"
    if "multiple values" in said:
        return f"{said.rpartition(' ')[2]} twice{_COLON}".replace("'", "")
    number = re.search(r"invalid literal for int\(\) with base \d+: (.*)", said)
    if number:
        return f"not a number: {number[1]}"
    if type(error).__module__.startswith("OpenSSL"):
        return "no private key and certificate in PEM form in the files"
    return said[:1].lower() + said[1:].rstrip(".")


def _no_such_inherited(error: Exception) -> str:
    if isinstance(error, AttributeError):
        return "no such domain"
    names = os.environ.get("LISTEN_FDNAMES")
    if names:
        return f"no such inherited socket; LISTEN_FDNAMES: {names}"
    # Twisted takes LISTEN_FDS only with the names, which systemd always gives.
    return (
        "no socket was inherited with LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES "
        "(systemd-socket-activate needs --fdname)"
    )


def _cannot_listen(description: str, error: BaseException | None) -> ListenError:
    """Say why a string that is right cannot be had."""
    prefix = _prefix(description)
    why = error.socketError if isinstance(error, CannotListenError) else error
    reason = getattr(why, "strerror", None) or str(why)
    code = getattr(why, "errno", None)
    allowed = _FORMS.get(prefix, "what it can open")
    if prefix == "unix":
        if "Cannot acquire lock" in reason:
            reason = "a running server holds its lock"
        elif code == errno.EADDRINUSE:
            reason = "the path exists"
        elif code == errno.ENOENT:
            reason = "no such directory"
        allowed = "a path that nothing has yet, in a directory that this user may write to"
    elif prefix == "systemd":
        if code == errno.EBADF:
            reason = "no open socket; each can be taken once"
        allowed = "a listening stream socket (ListenStream=, Accept=no)"
    elif isinstance(why, socket.gaierror) or code == errno.EADDRNOTAVAIL:
        unresolved = f"the interface does not resolve ({reason})"
        reason = "not an address of this machine" if code == errno.EADDRNOTAVAIL else unresolved
        allowed = "an interface that `ip address` shows"
    elif code == errno.EADDRINUSE:
        reason, allowed = "in use", "a free port, or 0 to take one"
    elif code in (errno.EACCES, errno.EPERM):
        reason = f"this user may not bind it ({reason})"
        allowed = (
            "a port of net.ipv4.ip_unprivileged_port_start or above; or start as root, "
            "with twistd's --uid and --gid to serve as another user"
        )
    elif type(why).__module__.startswith("OpenSSL"):
        reason = "the private key and the certificate do not fit"
    return ListenError(description, reason, allowed)
