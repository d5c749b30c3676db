"""The command line of ``twistd echo``: its words become objects."""

from __future__ import annotations

import errno
import getopt
import importlib.metadata
import re
import socket
import sys
from collections.abc import Mapping
from typing import Any

from twisted.internet.error import CannotListenError
from twisted.python import usage

from echoproto.endpoint import TCPEndpoint
from echoproto.factory import EchoFactory, LogDetail
from echoproto.service import EchoService


class CannotStartError(SystemExit, Exception):
    """Why the service cannot start, in one line.

    twistd cleans up (its pid file, its waiting parent) after an ``Exception``
    only; the interpreter prints a traceback for any but a ``SystemExit``, for
    which it prints the line and exits with 1.
    """


def _whole_number(option: str, allowed: str) -> Any:
    def parse(value: str) -> int:
        # int() also takes 1_0 and digits of other scripts, and refuses
        # thousands of digits.
        if not re.fullmatch(r"[+-]?[0-9]{1,4000}", value, re.ASCII):
            raise _bad(option, value, "not a whole number", allowed)
        return int(value)

    return parse


def _port(value: str) -> int:
    allowed = "0 to 65535; 0 takes a free one"
    port: int = _whole_number("port", allowed)(value)
    if not 0 <= port <= 65535:
        raise _bad("port", value, "out of range", allowed)
    return port


_backlog = _whole_number("backlog", "a whole number of connections")


def _seconds(value: str) -> float:
    allowed = "a number of seconds, 0 or more; 0 cuts at once"
    # float() also takes nan, inf and 1_0.
    if not re.fullmatch(r"\+?([0-9]{1,9}(\.[0-9]*)?|\.[0-9]+)", value, re.ASCII):
        raise _bad("drain-timeout", value, "not a number of seconds", allowed)
    return float(value)


def _log_detail(value: str) -> LogDetail:
    try:
        return LogDetail(value)
    except ValueError:
        allowed = ", ".join(detail.value for detail in LogDetail)
        raise _bad("log", value, "no such detail", allowed) from None


def _lane(value: str) -> str:
    if value not in ("fast", "stock"):
        raise _bad("lane", value, "no such lane", "fast, stock")
    return value


def _bad(option: str, value: object, reason: str, allowed: str) -> usage.UsageError:
    return usage.UsageError(_line(option, value, reason, allowed))


def _line(option: str, value: object, reason: str, allowed: str) -> str:
    shown = str(value)
    if not shown.isprintable() or not shown or shown != shown.strip():
        shown = ascii(shown)
    if len(shown) > 80:
        shown = f"{shown[:77]}..."
    return f"--{option} {shown}: {reason}; allowed: {allowed}"


class Options(usage.Options):
    """What ``twistd echo`` takes."""

    synopsis = "[options]"
    longdesc = (
        "Return every byte received (RFC 862), in order, losing nothing. "
        "SIGTERM or SIGINT ends it: no new connection is taken, running "
        "conversations get time to finish; a second signal cuts that short."
    )
    optParameters = [  # noqa: RUF012
        [
            "port",
            "p",
            9999,
            "TCP port, 0 to 65535; 0 takes a free one, and the log says which.",
            _port,
        ],
        [
            "interface",
            "i",
            "127.0.0.1",
            "Address to bind: IPv4, IPv6, or a host name; 0.0.0.0 for all of IPv4, "
            ":: for all of IPv6 and IPv4.",
        ],
        [
            "backlog",
            "b",
            1024,
            "Length of the accept queue, in connections; clamped on Linux to "
            "0 .. net.core.somaxconn.",
            _backlog,
        ],
        [
            "drain-timeout",
            None,
            10,
            "Seconds that running conversations get after SIGTERM or SIGINT; 0 cuts at once.",
            _seconds,
        ],
        [
            "log",
            None,
            LogDetail.LISTENING,
            "What to log: listening; connections (also opened, and closed with bytes and "
            "duration); or chunks (also each chunk received and each end of input, with the "
            "client's address).",
            _log_detail,
        ],
        [
            "lane",
            None,
            "fast",
            "How connections are served: fast (an epoll set of their own below the reactor, "
            "where the platform has it) or stock (by the reactor itself).",
            _lane,
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["reuse-address"] = True

    def opt_reuse_address(self) -> None:
        """Set SO_REUSEADDR: a restart works while old connections are in TIME_WAIT. [default]"""
        self["reuse-address"] = True

    def opt_no_reuse_address(self) -> None:
        """Leave SO_REUSEADDR off: bind fails while old connections are in TIME_WAIT."""
        self["reuse-address"] = False

    def opt_version(self) -> None:
        """Display the versions of echoproto and Twisted and exit."""
        print("echoproto", importlib.metadata.version("echoproto"))
        super().opt_version()

    def parseArgs(self, *args: str) -> None:
        """Take no arguments but options."""
        if args:
            raise usage.UsageError(f"unexpected argument {args[0]!r}; allowed: options only")

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse a command line.

        :raises CannotStartError: for bad input on twistd's own command line, which
            would print all the help before the error.
        :raises usage.UsageError: for bad input elsewhere.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if isinstance(error.__context__, getopt.GetoptError):
                error = usage.UsageError(f"{error}; allowed: what --help lists")
            if self.parent is None:
                raise error from None
            raise CannotStartError(str(error)) from None


class CommandLineService(EchoService):
    """An EchoService whose failed start is told in the command line's words."""

    def __init__(self, options: Options, reactor: Any) -> None:
        self._options = options
        super().__init__(
            TCPEndpoint(
                reactor,
                port=options["port"],
                interface=options["interface"],
                backlog=options["backlog"],
                reuse_address=options["reuse-address"],
            ),
            EchoFactory(options["log"]),
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=options["lane"] == "fast",
        )

    def _listen(self) -> None:
        try:
            super()._listen()
        except CannotListenError as error:
            refusal = CannotStartError(_explain(error, self._options))
            if sys.stderr is not sys.__stderr__:
                # twistd has taken standard error for its log, where the line
                # will stand, unless the log is on the terminal anyway.
                print(refusal, file=sys.__stderr__)
                parent: Mapping[str, Any] = self._options.parent or {}
                if parent.get("nodaemon") and parent.get("logfile") in (None, "-"):
                    refusal.code = 1
            raise refusal from None


def _explain(error: CannotListenError, options: Options) -> str:
    """Say which option cannot be had, why, and what is allowed."""
    port, interface, why = options["port"], options["interface"], error.socketError
    reason = getattr(why, "strerror", None) or str(why)
    code = getattr(why, "errno", None)
    if isinstance(why, (socket.gaierror, ValueError)):
        return _line(
            "interface", interface, f"does not resolve ({reason})", "an address or a host name"
        )
    if code == errno.EADDRNOTAVAIL:
        return _line(
            "interface", interface, "not an address of this machine", "one that `ip address` shows"
        )
    if code == errno.EADDRINUSE:
        return _line(
            "port",
            port,
            f"in use on {interface}",
            "a free port, or 0 to take one",
        )
    if code in (errno.EACCES, errno.EPERM):
        return _line(
            "port",
            port,
            f"this user may not bind it ({reason})",
            "a port of net.ipv4.ip_unprivileged_port_start or above; or start as root, "
            "with twistd's --uid and --gid to serve as another user",
        )
    return _line("interface", interface, f"cannot listen on port {port} ({reason})", "another one")


def makeService(options: Options, reactor: Any = None) -> EchoService:
    """Make the service that the command line describes.

    :param options: parsed.
    :param reactor: the one to listen with; the global one if none is given.
    """
    if reactor is None:
        from twisted.internet import reactor
    return CommandLineService(options, reactor)
