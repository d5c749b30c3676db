"""Why a socket cannot be bound."""

from __future__ import annotations

import errno
import socket

import pytest
from twisted.internet.error import CannotListenError

from echoproto.net.bind_errors import explain, text_of

UNRESOLVED = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def os_error(code: int) -> OSError:
    return OSError(code, f"strerror {code}")


@pytest.mark.parametrize(
    ("why", "kind", "subject", "reason", "allowed"),
    [
        (os_error(errno.EADDRINUSE), "tcp", "port", "in use on 127.0.0.1", "a free port"),
        (os_error(errno.EADDRINUSE), "unix", "path", "the path exists", "a path"),
        (os_error(errno.EADDRNOTAVAIL), "tcp6", "interface", "not an address", "an interface"),
        (os_error(errno.EINVAL), "tcp", "interface", "cannot be bound (str", "an interface"),
        (os_error(errno.EACCES), "ssl", "port", "this user may not bind it (str", "a port of"),
        (os_error(errno.EPERM), "tcp", "port", "this user may not bind it (str", "a port of"),
        (os_error(errno.EACCES), "unix", "path", f"strerror {errno.EACCES}", "a path"),
        (os_error(errno.ENOENT), "unix", "path", "no such directory", "a path"),
        (ValueError("no path"), "unix", "path", "no path", "a path of 1 to 107"),
        (BlockingIOError(errno.EWOULDBLOCK, "served"), "unix", "path", "served", "another"),
        (os_error(errno.EBADF), "systemd", "socket", "no open socket", "a listening stream"),
        (ValueError("no"), "systemd", "socket", "no", "a listening stream"),
        (UNRESOLVED, "tcp", "interface", "does not resolve (Name or", "an address or a host"),
    ],
)
def test_what_is_wrong_and_what_would_work(
    why: Exception, kind: str, subject: str, reason: str, allowed: str
) -> None:
    for error in (why, CannotListenError("127.0.0.1", 7, why)):
        found = explain(error, kind, "127.0.0.1")
        assert found is not None
        assert found.subject == subject
        assert found.reason.startswith(reason)
        assert found.allowed.startswith(allowed)


def test_a_name_that_cannot_be_looked_up() -> None:
    found = explain(CannotListenError("\0", 7, ValueError("embedded null character")))
    assert found is not None
    assert found.reason == "does not resolve (embedded null character)"


def test_a_port_in_use_without_an_address() -> None:
    found = explain(os_error(errno.EADDRINUSE))
    assert found is not None
    assert found.reason == "in use"


@pytest.mark.parametrize("error", [os_error(errno.EMFILE), ValueError("port out of range"), None])
def test_errors_that_are_not_in_the_tables(error: Exception | None) -> None:
    assert explain(error) is None


def test_the_text_of_an_error() -> None:
    assert text_of(CannotListenError("", 7, os_error(9))) == text_of(os_error(9)) == "strerror 9"
    assert text_of(ValueError("wrong")) == "wrong"
