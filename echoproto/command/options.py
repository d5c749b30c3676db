"""The words of ``twistd echo``: what may be typed, and how a slip is told."""

from __future__ import annotations

import getopt
import importlib.metadata
import ipaddress
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from twisted.python import usage

from echoproto.command.json_log import LogFormat
from echoproto.core.connection_log import LogDetail
from echoproto.proxy_protocol.gate import ProxyMode
from echoproto.workers.process import available

# More than any machine has cores; a number above it is a slip of the finger.
_MOST_WORKERS = 1024

# Where it listens when neither --port nor --listen says so.
_DEFAULT_PORT = 9999

Choice = TypeVar("Choice", bound=Enum)


class CannotStartError(SystemExit, Exception):
    """Why the service cannot start, in one line.

    twistd cleans up (its pid file, its waiting parent) after an ``Exception``
    only; the interpreter prints a traceback for any but a ``SystemExit``, for
    which it prints the line and exits with 1.
    """


def told(option: str, value: object, reason: str, allowed: str) -> str:
    """Say in one line what is wrong with an option.

    :param option: its name.
    :param value: what was given.
    :param reason: what is wrong with that.
    :param allowed: what would have been right.
    """
    shown = str(value)
    if not shown or shown != shown.strip():
        shown = repr(shown)
    return f"--{option} {_on_one_line(shown)}: {reason}; allowed: {allowed}"


def _on_one_line(words: str) -> str:
    """Make what was typed printable, and short."""
    if not words.isprintable():
        words = ascii(words)[1:-1]
    return words if len(words) <= 80 else f"{words[:60]}...{words[-17:]}"


def _bad(option: str, value: object, reason: str, allowed: str) -> usage.UsageError:
    return usage.UsageError(told(option, value, reason, allowed))


def _whole_number(
    option: str, allowed: str, least: int | None = None, most: int | None = None
) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # int() also takes 1_0 and digits of other scripts, and refuses
        # thousands of digits.
        if not re.fullmatch(r"[+-]?[0-9]{1,4000}", value, re.ASCII):
            raise _bad(option, value, "not a whole number", allowed)
        number = int(value)
        if (least is not None and number < least) or (most is not None and number > most):
            raise _bad(option, value, "out of range", allowed)
        return number

    return parse


def _seconds(option: str, allowed: str) -> Callable[[str], float]:
    def parse(value: str) -> float:
        # float() also takes nan, inf and 1_0.
        if not re.fullmatch(r"\+?([0-9]{1,9}(\.[0-9]*)?|\.[0-9]+)", value, re.ASCII):
            raise _bad(option, value, "not a number of seconds", allowed)
        return float(value)

    return parse


def _one_of(option: str, kind: type[Choice], what: str) -> Callable[[str], Choice]:
    def parse(value: str) -> Choice:
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(each.value for each in kind)
            raise _bad(option, value, f"no such {what}", allowed) from None

    return parse


def _workers(value: str) -> int:
    allowed = f"0 to {_MOST_WORKERS}; 0 for one for each core"
    if not available():
        allowed = "1 on this platform"
    count = _whole_number("workers", allowed, 0, _MOST_WORKERS)(value)
    if count != 1 and not available():
        raise _bad("workers", value, "no SO_REUSEPORT here", allowed)
    return count


def _lane(value: str) -> str:
    if value not in ("fast", "stock"):
        raise _bad("lane", value, "no such lane", "fast, stock")
    return value


class Options(usage.Options):
    """What ``twistd echo`` takes."""

    synopsis = "[options]"
    longdesc = (
        "Return every byte received (RFC 862), in order, losing nothing. "
        "SIGTERM or SIGINT ends it: no new connection is taken, running "
        "connections get time to finish; a second signal cuts that short."
    )
    optParameters = [  # noqa: RUF012
        [
            "port",
            "p",
            None,
            "TCP port, 0 to 65535; 0 takes a free one, and the log says which. With --listen, "
            f"only when given too. [default: {_DEFAULT_PORT}]",
            _whole_number("port", "0 to 65535; 0 takes a free one", 0, 65535),
        ],
        [
            "interface",
            "i",
            "127.0.0.1",
            "Address to bind --port to: IPv4, IPv6, or a host name; 0.0.0.0 for all of IPv4, "
            ":: for all of IPv6 and IPv4.",
        ],
        [
            "backlog",
            "b",
            1024,
            "Length of the accept queue, in connections; clamped on Linux to "
            "0 .. net.core.somaxconn.",
            _whole_number("backlog", "a whole number of connections"),
        ],
        [
            "drain-timeout",
            None,
            10,
            "Seconds that running connections get after SIGTERM or SIGINT; 0 cuts at once.",
            _seconds("drain-timeout", "a number of seconds, 0 or more; 0 cuts at once"),
        ],
        [
            "drain-delay",
            None,
            0,
            "Seconds for which connections are still taken after SIGTERM or SIGINT, while "
            "/readyz of --status already says 503.",
            _seconds("drain-delay", "a number of seconds, 0 or more"),
        ],
        [
            "max-connections",
            None,
            0,
            "The most connections at once, in all; further clients wait in the accept queue. "
            "0 for no limit.",
            _whole_number("max-connections", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "max-per-source",
            None,
            0,
            "The most connections at once with one source (an IPv4 address, or an IPv6 /64); "
            "further ones are closed at once. 0 for no limit.",
            _whole_number("max-per-source", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "idle-timeout",
            None,
            0,
            "Seconds without a byte in either direction after which a connection ends. "
            "0 for never.",
            _seconds("idle-timeout", "a number of seconds, 0 or more; 0 for never"),
        ],
        [
            "max-bytes-per-second",
            None,
            0,
            "The most bytes a second that one connection is read. 0 for no limit.",
            _whole_number("max-bytes-per-second", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "proxy-protocol",
            None,
            ProxyMode.OFF,
            "PROXY protocol headers, v1 and v2, that name the true source: off, optional, or "
            "required.",
            _one_of("proxy-protocol", ProxyMode, "mode"),
        ],
        [
            "status",
            None,
            None,
            "Where to serve metrics, health and a live page: a Twisted endpoint, or a TCP port; "
            "on loopback unless it names an address. [default: nowhere]",
        ],
        [
            "log",
            None,
            LogDetail.LISTENING,
            "What to log: listening; connections (also opened, and closed with bytes and "
            "duration); or chunks (also each chunk received and each end of input, with the "
            "client's address).",
            _one_of("log", LogDetail, "detail"),
        ],
        [
            "log-format",
            None,
            LogFormat.TEXT,
            "How to log: text, or json (an object a line).",
            _one_of("log-format", LogFormat, "format"),
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
        self["listen"] = []
        self["proxy-from"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen on a Twisted server endpoint too, as tcp:9999, tcp6:9999, unix:/run/echo.sock,
        ssl:9999:privateKey=key.pem:certKey=cert.pem, systemd:domain=INET:index=0. Repeatable."""
        self["listen"].append(endpoint)

    def opt_proxy_from(self, network: str) -> None:
        """Believe the PROXY headers of this network, as 192.0.2.0/24 or 2001:db8::/32, and no
        others'. Repeatable. [default: loopback]"""
        try:
            self["proxy-from"].append(ipaddress.ip_network(network))
        except ValueError as error:
            raise _bad(
                "proxy-from",
                network,
                f"not a network ({error})",
                "an IPv4 or IPv6 network, as 192.0.2.0/24 or 2001:db8::/32",
            ) from None

    def opt_reuse_port(self) -> None:
        """Set SO_REUSEPORT: share the port with other processes of this user that set it too."""
        if not available():
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

    def postOptions(self) -> None:
        """Settle what depends on more than one option."""
        if self["port"] is None and not self["listen"]:
            self["port"] = _DEFAULT_PORT
        program: Mapping[str, Any] = self.parent or {}
        if self["log-format"] is LogFormat.JSON and program.get("syslog"):
            raise _bad("log-format", "json", "the log goes to syslog", "text, or without --syslog")
        over_tls = [each for each in self["listen"] if each.startswith(("ssl:", "tls:"))]
        if over_tls and self["proxy-protocol"] is not ProxyMode.OFF:
            raise _bad(
                "proxy-protocol",
                self["proxy-protocol"],
                f"a balancer sends its header before TLS begins, and {over_tls[0]} sees only "
                "what is within",
                "listeners without TLS",
            )
        if self["proxy-from"] and self["proxy-protocol"] is ProxyMode.OFF:
            raise _bad(
                "proxy-from",
                self["proxy-from"][0],
                "no header is read",
                "with --proxy-protocol optional or required",
            )

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
