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

from echoproto import workers
from echoproto.endpoint import TCPEndpoint
from echoproto.factory import EchoFactory, LogDetail
from echoproto.service import EchoService
from echoproto.workers import WorkersService

# More than any machine has cores; a number above it is a slip of the finger.
_MOST_WORKERS = 1024


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


def _workers(value: str) -> int:
    allowed = f"0 to {_MOST_WORKERS}; 0 for one for each core"
    if not workers.available():
        allowed = "1 on this platform"
    count: int = _whole_number("workers", allowed)(value)
    if not 0 <= count <= _MOST_WORKERS:
        raise _bad("workers", value, "out of range", allowed)
    if count != 1 and not workers.available():
        raise _bad("workers", value, "no SO_REUSEPORT here", allowed)
    return count


def _lane(value: str) -> str:
    if value not in ("fast", "stock"):
        raise _bad("lane", value, "no such lane", "fast, stock")
    return value


def _bad(option: str, value: object, reason: str, allowed: str) -> usage.UsageError:
    return usage.UsageError(_line(option, value, reason, allowed))


def _line(option: str, value: object, reason: str, allowed: str) -> str:
    shown = str(value)
    if not shown or shown != shown.strip():
        shown = repr(shown)
    return f"--{option} {_on_one_line(shown)}: {reason}; allowed: {allowed}"


def _on_one_line(words: str) -> str:
    """Make what was typed printable, and short."""
    if not words.isprintable():
        words = ascii(words)[1:-1]
    return words if len(words) <= 80 else f"{words[:60]}...{words[-17:]}"


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
        [
            "workers",
            "w",
            1,
            "Processes that serve the port; 0 for one for each core that this process may use.",
            _workers,
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["reuse-address"] = True
        self["reuse-port"] = False

    def opt_reuse_port(self) -> None:
        """Set SO_REUSEPORT: share the port with other processes of this user that set it too."""
        if not workers.available():
            raise usage.UsageError("--reuse-port: this platform has no SO_REUSEPORT")
        self["reuse-port"] = True

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
            unexpected = _on_one_line(repr(args[0]))
            raise usage.UsageError(f"unexpected argument {unexpected}; allowed: options only")

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
                refusal = _on_one_line(str(error))
                error = usage.UsageError(f"{refusal}; allowed: what --help lists")
            if self.parent is None:
                raise error from None
            raise CannotStartError(str(error)) from None


class _ToldInOptions:
    """Mixed into a service: a failed start is told in the command line's words."""

    _options: Options

    def _listen(self) -> None:
        try:
            super()._listen()  # type: ignore[misc]
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


class CommandLineService(_ToldInOptions, EchoService):
    """What ``twistd echo`` runs."""


class CommandLineWorkersService(_ToldInOptions, WorkersService):
    """What ``twistd echo --workers`` runs."""


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
    if code == errno.EINVAL:
        return _line(
            "interface",
            interface,
            f"cannot be bound ({reason})",
            "one that `ip address` shows; a link-local one with its device, as in fe80::1%eth0",
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


def makeService(options: Options, reactor: Any = None) -> EchoService | WorkersService:
    """Make the service that the command line describes.

    :param options: parsed.
    :param reactor: the one to listen with; the global one if none is given.
    """
    if reactor is None:
        from twisted.internet import reactor
    endpoint = TCPEndpoint(
        reactor,
        port=options["port"],
        interface=options["interface"],
        backlog=options["backlog"],
        reuse_address=options["reuse-address"],
        reuse_port=options["reuse-port"],
    )
    fast_lane = options["lane"] == "fast"
    service: CommandLineService | CommandLineWorkersService
    if options["workers"] == 1:
        service = CommandLineService(
            endpoint,
            EchoFactory(options["log"]),
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
        )
    else:
        service = CommandLineWorkersService(
            endpoint,
            options["workers"] or workers.cores(),
            log=options["log"],
            drain_timeout=options["drain-timeout"],
            reactor=reactor,
            fast_lane=fast_lane,
        )
    service._options = options
    return service
