"""The options of ``twistd echo``: names, defaults, validation and error messages."""

from __future__ import annotations

import difflib
import getopt
import importlib.metadata
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, TypeVar

from twisted.python import usage

from echoproto.command.json_log import LogFormat
from echoproto.core.connection_log import LogDetail
from echoproto.proxy_protocol.gate import ProxyMode
from echoproto.workers.process import available

# More than any machine has cores; a larger number is a typing error.
_MOST_WORKERS = 1024

# A longer list is harder to read than --help.
_MAX_SUGGESTIONS = 4

# The TCP port if neither --port nor --listen is given.
_DEFAULT_PORT = 9999

Choice = TypeVar("Choice", bound=Enum)


class CannotStartError(SystemExit, Exception):
    """The reason why the service cannot start, in one line.

    It is an ``Exception``, because twistd cleans up (its pid file, its waiting
    parent) only after one. It is a ``SystemExit``, because the interpreter prints
    a traceback for every other exception; for this one it prints the line and
    exits with 1.
    """

    def __init__(self, line: str, printed: bool = False) -> None:
        """Give the reason.

        :param line: the reason.
        :param printed: whether it was printed already, so that the interpreter only exits.
        """
        super().__init__(line)
        if printed:
            self.code = 1


def option_error(option: str, value: object, reason: str, allowed: str) -> str:
    """Return the error message for the value of an option, in one line.

    :param option: its name, without dashes.
    :param value: the value that was given.
    :param reason: what is wrong with the value.
    :param allowed: which values are valid.
    """
    shown = str(value)
    if not shown or shown != shown.strip():
        shown = repr(shown)
    return f"--{option} {_on_one_line(shown)}: {reason}; allowed: {allowed}"


def _on_one_line(text: str) -> str:
    """Escape and shorten a text from the command line, so that it fits on one line."""
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def _explain(error: getopt.GetoptError, long_options: Iterable[str]) -> str:
    """Return the message for an option that getopt rejects, in one line.

    :param error: its ``msg`` has the form "option --NAME" and the reason.
    :param long_options: the known options, as getopt takes them.
    """
    dashes = "--" if error.msg.startswith(f"option --{error.opt} ") else "-"
    option = _on_one_line(f"{dashes}{error.opt}")
    # The name may contain anything, so it must not be searched for a reason.
    reason = error.msg.removeprefix(f"option {dashes}{error.opt} ")
    names = [name.rstrip("=") for name in long_options]
    if reason == "requires argument":
        return f"option {option} requires a value; see --help"
    if reason == "must not have an argument":
        return f"option {option} takes no value; see --help"
    if reason == "not a unique prefix":
        similar = sorted(f"--{name}" for name in names if name.startswith(error.opt))
        if len(similar) <= _MAX_SUGGESTIONS:
            return f"ambiguous option {option}; did you mean {' or '.join(similar)}?"
        return f"ambiguous option {option}; see --help"
    similar = difflib.get_close_matches(error.opt, names, n=1) if dashes == "--" else []
    hint = f"did you mean --{similar[0]}?" if similar else "see --help"
    return f"unknown option {option}; {hint}"


def _bad(option: str, value: object, reason: str, allowed: str) -> usage.UsageError:
    return usage.UsageError(option_error(option, value, reason, allowed))


def _whole_number(
    option: str, allowed: str, least: int | None = None, most: int | None = None
) -> Callable[[str], int]:
    def parse(value: str) -> int:
        # int() also accepts 1_0 and digits of other scripts, and rejects
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
        # float() also accepts nan, inf and 1_0.
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
    allowed = f"0 to {_MOST_WORKERS}; 0 starts one per core"
    if not available():
        allowed = "1 on this platform"
    count = _whole_number("workers", allowed, 0, _MOST_WORKERS)(value)
    if count != 1 and not available():
        raise _bad("workers", value, "this platform has no SO_REUSEPORT", allowed)
    return count


def _lane(value: str) -> str:
    if value not in ("fast", "stock"):
        raise _bad("lane", value, "no such lane", "fast, stock")
    return value


class Options(usage.Options):
    """The options of ``twistd echo``."""

    synopsis = "[options]"
    longdesc = (
        "Return every byte received (RFC 862), in order and without loss. "
        "SIGTERM or SIGINT starts a drain: new connections are no longer accepted, and open "
        "ones get --drain-timeout seconds to finish. A second signal aborts them."
    )
    optParameters = [  # noqa: RUF012
        [
            "port",
            "p",
            None,
            "TCP port, 0 to 65535. 0 picks a free port, which the log shows. "
            f"[default: {_DEFAULT_PORT}, or none if --listen is given]",
            _whole_number("port", "0 to 65535; 0 picks a free port", 0, 65535),
        ],
        [
            "interface",
            "i",
            "127.0.0.1",
            "Address to bind --port to: IPv4, IPv6, or a host name. 0.0.0.0 binds all IPv4 "
            "addresses, :: all IPv6 and IPv4 addresses.",
        ],
        [
            "backlog",
            "b",
            1024,
            "Length of the accept queue, in connections. On Linux it is clamped to "
            "0 .. net.core.somaxconn.",
            _whole_number("backlog", "a whole number of connections"),
        ],
        [
            "drain-timeout",
            None,
            10,
            "Seconds that open connections get to finish after SIGTERM or SIGINT. 0 aborts them "
            "immediately.",
            _seconds("drain-timeout", "a number of seconds, 0 or more; 0 aborts immediately"),
        ],
        [
            "drain-delay",
            None,
            0,
            "Seconds after SIGTERM or SIGINT during which new connections are still accepted, "
            "while /readyz of --status already returns 503.",
            _seconds("drain-delay", "a number of seconds, 0 or more"),
        ],
        [
            "max-connections",
            None,
            0,
            "Maximum number of connections at once, in total. At the limit new clients wait in "
            "the accept queue. 0 for no limit.",
            _whole_number("max-connections", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "max-per-source",
            None,
            0,
            "Maximum number of connections at once per source (an IPv4 address, or an IPv6 /64). "
            "Connections over the limit are closed immediately. 0 for no limit.",
            _whole_number("max-per-source", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "idle-timeout",
            None,
            0,
            "Seconds without a byte in either direction after which a connection is closed. "
            "0 for no limit.",
            _seconds("idle-timeout", "a number of seconds, 0 or more; 0 for no limit"),
        ],
        [
            "max-bytes-per-second",
            None,
            0,
            "Maximum read rate per connection, in bytes per second. 0 for no limit.",
            _whole_number("max-bytes-per-second", "a whole number, 0 or more; 0 for no limit", 0),
        ],
        [
            "proxy-protocol",
            None,
            ProxyMode.OFF,
            "PROXY protocol headers, v1 and v2, which carry the client's address: off, "
            "optional, or required.",
            _one_of("proxy-protocol", ProxyMode, "mode"),
        ],
        [
            "status",
            None,
            None,
            "Where to serve metrics, health checks and a live page: a TCP port, or a Twisted "
            "endpoint. It binds to loopback unless an address is given. [default: nowhere]",
        ],
        [
            "log",
            None,
            LogDetail.LISTENING,
            "What to log: listening; connections (also each connection opened, and closed with "
            "bytes and duration); or chunks (also each chunk received and each end of input, "
            "with the client's address).",
            _one_of("log", LogDetail, "detail"),
        ],
        [
            "log-format",
            None,
            LogFormat.TEXT,
            "Log format: text, or json (one object per line).",
            _one_of("log-format", LogFormat, "format"),
        ],
        [
            "lane",
            None,
            "fast",
            "How connections are served: fast (in an epoll set below the reactor, where the "
            "platform has epoll) or stock (by the reactor itself).",
            _lane,
        ],
        [
            "workers",
            "w",
            1,
            "Number of processes that serve the port. 0 starts one per core that this process "
            "may use.",
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
        """Listen on a Twisted server endpoint, such as tcp:9999, tcp6:9999, unix:/run/echo.sock,
        ssl:9999:privateKey=key.pem:certKey=cert.pem, systemd:domain=INET:index=0. Repeatable."""
        self["listen"].append(endpoint)

    def opt_proxy_from(self, network: str) -> None:
        """Trust PROXY headers from this network, such as 192.0.2.0/24 or 2001:db8::/32, and no
        longer those from loopback. Repeatable. [default: loopback]"""
        try:
            self["proxy-from"].append(ipaddress.ip_network(network))
        except ValueError as error:
            raise _bad(
                "proxy-from",
                network,
                f"not a network ({error})",
                "an IPv4 or IPv6 network, such as 192.0.2.0/24 or 2001:db8::/32",
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
        """Do not set SO_REUSEADDR: bind fails while old connections are in TIME_WAIT."""
        self["reuse-address"] = False

    def opt_version(self) -> None:
        """Display the versions of echoproto and Twisted and exit."""
        print("echoproto", importlib.metadata.version("echoproto"))
        super().opt_version()

    def parseArgs(self, *args: str) -> None:
        """Reject arguments that are not options.

        :raises usage.UsageError: if there are any.
        """
        if args:
            unexpected = _on_one_line(repr(args[0]))
            raise usage.UsageError(f"unexpected argument {unexpected}; allowed: options only")

    def postOptions(self) -> None:
        """Apply the rules that concern more than one option.

        :raises usage.UsageError: if options contradict each other.
        """
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
                "a balancer sends the header before the TLS handshake, which "
                f"{over_tls[0]} does not read",
                "listeners without TLS",
            )
        if self["proxy-from"] and self["proxy-protocol"] is ProxyMode.OFF:
            raise _bad(
                "proxy-from",
                self["proxy-from"][0],
                "PROXY headers are off",
                "only with --proxy-protocol optional or required",
            )

    def parseOptions(self, options: list[str] | None = None) -> None:
        """Parse a command line.

        :param options: the arguments; those of this process if none are given.
        :raises CannotStartError: for invalid options on twistd's command line. For
            any other error twistd prints the whole help text first.
        :raises usage.UsageError: for invalid options elsewhere.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            if isinstance(error.__context__, getopt.GetoptError):
                error = usage.UsageError(_explain(error.__context__, self.longOpt))
            if self.parent is None:
                raise error from None
            raise CannotStartError(str(error)) from None
