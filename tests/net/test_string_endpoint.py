"""What an endpoint string opens, with fake reactors."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTCP, IStreamServerEndpoint
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from zope.interface.verify import verifyObject

from echoproto.net import string_endpoint as listen
from echoproto.net.endpoint_strings import full_form
from echoproto.net.string_endpoint import ListenError, StringEndpoint, names_backlog
from tests.fakes import RefusingReactor
from tests.reactors import run
from tests.twisted_versions import HAS_BINDINGS, binding


@pytest.fixture
def reactor() -> MemoryReactorClock:
    return MemoryReactorClock()


def opened(reactor: Any, description: str, **options: Any) -> tuple[Any, StringEndpoint]:
    """Listen; return what the reactor was asked for."""
    endpoint = StringEndpoint(reactor, description, **options)
    endpoint.listen(ServerFactory())
    ((port, _, backlog, interface),) = reactor.tcpServers
    return (port, backlog, interface), endpoint


def test_its_interface(reactor: MemoryReactorClock) -> None:
    verifyObject(IStreamServerEndpoint, StringEndpoint(reactor, "tcp:0"))


@pytest.mark.parametrize(
    ("description", "backlog", "interface"),
    [
        ("tcp:7", 9, "0.0.0.0"),
        ("tcp:7:interface=127.0.0.1", 9, "127.0.0.1"),
        ("tcp:7:backlog=5", 5, "0.0.0.0"),
        # Twisted's default, but named.
        ("tcp:7:backlog=50", 50, "0.0.0.0"),
        ("tcp:7:127.0.0.1:50", 50, "127.0.0.1"),
        ("tcp6:7", 9, "::"),
        ("tcp6:7:50", 50, "::"),
        (r"tcp6:7:interface=\:\:1", 9, "::1"),
    ],
)
def test_tcp(reactor: MemoryReactorClock, description: str, backlog: int, interface: str) -> None:
    asked, endpoint = opened(reactor, description, backlog=9, reuse_port=HAS_BINDINGS)
    expected = binding(interface, 7, reuse_port=HAS_BINDINGS)
    assert asked == (expected, backlog, interface)
    assert endpoint.backlog == backlog
    assert endpoint.wrapper is None


@pytest.mark.parametrize(
    ("description", "named"),
    [
        ("tcp:backlog", False),
        ("tcp:7:interface=backlog=", False),
        (r"tcp:7:x\:backlog=5", False),
        ("tcp:7:backlog=5", True),
        ("tcp:7::5", True),
        ("ssl:7:k:c:m:i:5", True),
        ("ssl:7:k:c:m:i", False),
        ("tls:dir:7:5", True),
        ("tls:dir:7", False),
        ("unix:/x:660:5", True),
        ("unix:/x:660:lockfile=0", False),
        ("UNIX:/x:660", False),
        ("plugin:1:2:3:4:5:6:7", False),
        ("plugin:backlog=5", True),
    ],
)
def test_whether_a_string_names_a_backlog(description: str, named: bool) -> None:
    assert names_backlog(description) is named


@given(st.text(alphabet=r"tcp6unixsly:=\0759 backlog/", max_size=40))
def test_a_wrong_string_is_refused_in_one_line(description: str) -> None:
    errors: list[ListenError] = []
    try:
        StringEndpoint(MemoryReactorClock(), description)
    except ListenError as error:
        errors.append(error)
    for each in errors:
        assert each.description == full_form(description)
        assert each.reason
        assert "\n" not in each.reason + each.allowed


@pytest.mark.parametrize(
    ("description", "reason", "allowed"),
    [
        ("", "no such kind of endpoint", "ssl:, systemd:, tcp:, tcp6:, "),
        ("tcpx:7", "no such kind of endpoint", "ssl:, "),
        ("tcp", "without port", "tcp:PORT["),
        ("tcp:", "not a number: ''", "tcp:PORT["),
        ("tcp:x", "not a number: 'x'", "tcp:PORT["),
        ("tcp:7:backlog=x", "not a number: 'x'", "tcp:PORT["),
        ("tcp:7:color=red", "no such argument: color", "tcp:PORT["),
        ("tcp:1:2:3:4", "too many arguments (a colon", "tcp:PORT["),
        ("tcp6:7:interface=::1", "interface twice (a colon", "tcp6:PORT["),
        ("tcp:7\\", "ends in a backslash", "tcp:PORT["),
        ("unix", "without address", "unix:PATH["),
        ("unix:/x:mode=9", "mode=9: not an octal number from 0 to 777", "unix:PATH["),
        ("unix:/x:1777", "mode=1777: not an octal number from 0 to 777", "unix:PATH["),
        ("unix:address=/x:mode=-1", "mode=-1: not an octal number", "unix:PATH["),
        ("unix:/x:mode=6_6", "mode=6_6: not an octal number", "unix:PATH["),
        ("unix:/x:mode=", "mode=: not an octal number", "unix:PATH["),
        ("stdio:", "stdio: serves standard input", "tcp, "),
        ("haproxy:tcp:7", "haproxy: loses", "--proxy-protocol"),
        ("HAProxy:tcp:7", "haproxy: loses", "--proxy-protocol"),
        ("systemd", "without domain", "systemd:domain=INET"),
        ("systemd:domain=INET", "specify exactly one", "systemd:domain=INET"),
        ("systemd:domain=INET:index=x", "not a number: 'x'", "systemd:domain=INET"),
        ("systemd:domain=INET:index=9", "no socket was inherited", "systemd:domain=INET"),
        ("systemd:domain=INET:name=x", "no socket was inherited", "systemd:domain=INET"),
    ],
)
def test_the_message_says_what_is_wrong(description: str, reason: str, allowed: str) -> None:
    with pytest.raises(ListenError) as caught:
        StringEndpoint(MemoryReactorClock(), description)
    assert caught.value.reason.startswith(reason)
    assert caught.value.allowed.startswith(allowed)


def test_the_message_names_the_inherited_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_FDNAMES", "web:echo")
    with pytest.raises(ListenError, match="LISTEN_FDNAMES: web:echo"):
        StringEndpoint(MemoryReactorClock(), "systemd:domain=INET:name=other")


def test_the_kinds_that_there_are() -> None:
    with pytest.raises(ListenError) as caught:
        StringEndpoint(MemoryReactorClock(), "")
    assert caught.value.allowed == "ssl:, systemd:, tcp:, tcp6:, tls:, unix:"


def test_tls_without_pyopenssl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_has_tls", lambda: False)
    for description in ("ssl:7", "tls:dir"):
        with pytest.raises(ListenError, match=r"needs pyOpenSSL; .*pip install 'echoproto\[tls\]'"):
            StringEndpoint(MemoryReactorClock(), description)


def refused(description: str, why: BaseException) -> ListenError:
    """Listen where the socket refuses; return the refusal."""
    failures: list[Any] = []
    StringEndpoint(RefusingReactor(why), description).listen(ServerFactory()).addErrback(
        failures.append
    )
    error = failures[0].value
    assert isinstance(error, ListenError)
    assert error.description == description
    return error


@pytest.mark.parametrize(
    ("code", "reason", "allowed"),
    [
        (errno.EADDRINUSE, "in use", "a free port"),
        (errno.EADDRNOTAVAIL, "not an address of this machine", "an interface"),
        (errno.EACCES, "this user may not bind it", "a port of net.ipv4"),
        (errno.EMFILE, "strerror", "tcp:PORT"),
    ],
)
def test_why_it_cannot_listen(code: int, reason: str, allowed: str) -> None:
    error = refused("tcp:7", OSError(code, "strerror"))
    assert error.reason.startswith(reason)
    assert error.allowed.startswith(allowed)


@pytest.mark.parametrize("description", ["tcp:-1", "tcp:65536", "1000000", "[::1]:99999"])
def test_a_port_out_of_range(reactor: MemoryReactorClock, description: str) -> None:
    failures: list[Any] = []
    endpoint = StringEndpoint(reactor, description)
    endpoint.listen(ServerFactory()).addErrback(failures.append)
    assert failures[0].value.reason == "port out of range"
    assert failures[0].value.description == description  # also if it is a short form


def test_an_interface_that_does_not_resolve(reactor: MemoryReactorClock) -> None:
    failures: list[Any] = []
    endpoint = StringEndpoint(reactor, "tcp:7:interface=a\0b")
    endpoint.listen(ServerFactory()).addErrback(failures.append)
    assert isinstance(failures[0].value, ListenError)


class FakePlugin:
    """A plug-in with endpoints of its own."""

    prefix = "played"

    def __init__(self) -> None:
        self.listen: Any = None
        self.reactor: Any = None

    def parseStreamServer(self, reactor: Any, *args: str, **named: str) -> Any:
        self.reactor = reactor
        assert IReactorTCP.providedBy(reactor)
        plugin = self

        class Endpoint:
            def listen(self, factory: Any) -> Any:
                return plugin.listen(reactor, factory)

        return Endpoint()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePlugin]:
    played = FakePlugin()
    monkeypatch.setattr(listen, "getPlugins", lambda _: [played])
    monkeypatch.setattr("twisted.internet.endpoints.getPlugins", lambda _: [played])
    return played  # type: ignore[return-value]


def test_a_plugin_listens_in_our_way(reactor: MemoryReactorClock, plugin: FakePlugin) -> None:
    plugin.listen = lambda reactor, factory: reactor.listenTCP(7, factory)
    asked, endpoint = opened(reactor, "played:x", backlog=9)
    assert asked == (binding("0.0.0.0", 7), 9, "0.0.0.0")
    assert endpoint.backlog == 9
    # What opens no socket is passed on.
    assert plugin.reactor.seconds() == 0


@pytest.mark.skipif(not HAS_BINDINGS, reason="needs Twisted 26.10")
def test_a_plugin_with_a_binding_of_its_own(
    reactor: MemoryReactorClock, plugin: FakePlugin
) -> None:
    own = binding("127.0.0.1", 7, reuse_address=False)
    plugin.listen = lambda reactor, factory: reactor.listenTCP(own, factory, 3, "127.0.0.1")
    assert opened(reactor, "played:x", backlog=9)[0] == (own, 3, "127.0.0.1")


def test_a_plugin_that_adds_a_layer(reactor: MemoryReactorClock, plugin: FakePlugin) -> None:
    plugin.listen = lambda reactor, factory: reactor.listenTCP(7, ServerFactory())
    _, endpoint = opened(reactor, "played:x")
    assert endpoint.wrapper == "played:x"


def test_workers_need_one_that_listens_at_once(
    reactor: MemoryReactorClock, plugin: FakePlugin
) -> None:
    plugin.listen = lambda reactor, factory: Deferred()
    with pytest.raises(ListenError, match="does not listen at once"):
        StringEndpoint(reactor, "played:x").listen_many(ServerFactory(), 2)


# With real sockets.


def test_a_socket_for_each_worker() -> None:
    if not hasattr(socket, "SO_REUSEPORT"):
        pytest.skip("this platform has no SO_REUSEPORT")

    async def main(reactor: Any) -> set[int]:
        endpoint = StringEndpoint(reactor, "tcp:0:interface=127.0.0.1")
        ports: list[Any] = endpoint.listen_many(ServerFactory(), 3)
        numbers = [port.getHost().port for port in ports]
        for port in ports:
            await port.stopListening()
        assert len(numbers) == 3
        return set(numbers)

    assert len(run(main)) == 1


@pytest.mark.parametrize("description", ["tcp:0", "unix:{}/other"])
def test_a_socket_that_was_opened_before(description: str, tmp_path: Path) -> None:
    async def main(reactor: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            endpoint = StringEndpoint(
                reactor, description.format(tmp_path), inherited=os.dup(sock.fileno())
            )
            port: Any = await endpoint.listen(ServerFactory())
            assert port.getHost().port == sock.getsockname()[1]
            await port.stopListening()

    run(main)
    assert not list(tmp_path.iterdir())


def test_an_inherited_socket_has_no_backlog_that_was_asked_for(plugin: FakePlugin) -> None:
    async def main(reactor: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            plugin.listen = lambda reactor, factory: reactor.adoptStreamPort(
                sock.fileno(), sock.family, factory
            )
            endpoint = StringEndpoint(reactor, "played:x")
            port: Any = await endpoint.listen(ServerFactory())
            assert endpoint.backlog is None
            await port.stopListening()
            assert sock.fileno() >= 0

    run(main)
