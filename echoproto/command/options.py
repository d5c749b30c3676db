"""The options of ``twistd echo``: names, defaults, validation and error messages."""

from __future__ import annotations

import getopt
import importlib.metadata
import ipaddress
import re
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from twisted.python import usage

from echoproto.base.bounds import (
    LEAST_IDLE_TIMEOUT,
    LEAST_KEEPALIVE,
    LEAST_WORKER_TIMEOUT,
    MOST_BYTES_PER_SECOND,
    MOST_CONNECTIONS,
    MOST_KEEPALIVE,
)
from echoproto.command import pid_file
from echoproto.command.errors import CannotStartError, bad, explain_getopt, on_one_line
from echoproto.command.json_log import LogFormat
from echoproto.command.units import seconds, size, whole_number
from echoproto.core.connection_log import LogDetail
from echoproto.net import tls_endpoint
from echoproto.net.endpoint_strings import parse_endpoint
from echoproto.net.tls_settings import MinVersion
from echoproto.proxy_protocol.gate import ProxyMode
from echoproto.service import KEEPALIVE
from echoproto.workers.process import available

# More than any machine has cores; a larger number is a typing error.
_MOST_WORKERS = 1024

_COUNT = f"a whole number, up to {MOST_CONNECTIONS}; 0 for no limit"

# The TCP port if neither --port nor --listen is given.
_DEFAULT_PORT = 9999
_DEFAULT_INTERFACE = "127.0.0.1"

Choice = TypeVar("Choice", bound=Enum)


def _one_of(option: str, kind: type[Choice], what: str) -> Callable[[str], Choice]:
    def parse(value: str) -> Choice:
        try:
            return kind(value)
        except ValueError:
            allowed = ", ".join(each.value for each in kind)
            raise bad(option, value, f"no such {what}", allowed) from None

    return parse


def _workers(value: str) -> int:
    allowed = f"0 to {_MOST_WORKERS}; 0 starts one per core"
    if not available():
        allowed = "1 on this platform"
    count = whole_number("workers", allowed, 0, _MOST_WORKERS)(value)
    if count != 1 and not available():
        raise bad("workers", value, "this platform has no SO_REUSEPORT", allowed)
    return count


def _not_a_network(text: str) -> str:
    """Return why a text is not a network, without the text itself."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "not a network"
    return f"not a network (host bits are set; {network} has none)"


def _lane(value: str) -> str:
    if value not in ("fast", "stock"):
        raise bad("lane", value, "no such lane", "fast, stock")
    return value


class Options(usage.Options):
    """The options of ``twistd echo``."""

    synopsis = "[options]"
    longdesc = (
        "Return every byte received (RFC 862), in order and without loss. "
        "SIGTERM or SIGINT starts a drain: new connections are no longer accepted, and open "
        "ones get --drain-timeout seconds to finish. A second signal aborts them. "
        "Seconds may have a unit: 500ms, 90s, 5m, 1h, 1d."
    )
    optParameters = [  # noqa: RUF012
        [
            "port",
            "p",
            None,
            "TCP port, 0 to 65535. 0 picks a free port, which the log shows. "
            f"[default: {_DEFAULT_PORT}, or none if --listen is given]",
            whole_number("port", "0 to 65535; 0 picks a free port", 0, 65535),
        ],
        [
            "interface",
            "i",
            None,
            "Address to bind --port to: IPv4, IPv6, or a host name. 0.0.0.0 binds all IPv4 "
            f"addresses, :: or * all IPv6 and IPv4 addresses. [default: {_DEFAULT_INTERFACE}]",
        ],
        [
            "backlog",
            "b",
            1024,
            "Length of the accept queue, in connections. On Linux it is clamped to "
            "0 .. net.core.somaxconn.",
            whole_number(
                "backlog",
                f"a whole number of connections, up to {MOST_CONNECTIONS}",
                -MOST_CONNECTIONS,
                MOST_CONNECTIONS,
            ),
        ],
        [
            "drain-timeout",
            None,
            10,
            "Seconds that open connections get to finish after SIGTERM or SIGINT. 0 aborts them "
            "immediately.",
            seconds("drain-timeout", "aborts immediately"),
        ],
        [
            "drain-delay",
            None,
            0,
            "Seconds after SIGTERM or SIGINT during which new connections are still accepted, "
            "while /readyz of --status already returns 503.",
            seconds("drain-delay"),
        ],
        [
            "max-connections",
            None,
            0,
            "Maximum number of connections at once, in total. At the limit new clients wait in "
            "the accept queue. 0 for no limit.",
            whole_number("max-connections", _COUNT, 0, MOST_CONNECTIONS),
        ],
        [
            "max-per-source",
            None,
            0,
            "Maximum number of connections at once per source (an IPv4 address, or an IPv6 /64). "
            "Connections over the limit are closed immediately. 0 for no limit.",
            whole_number("max-per-source", _COUNT, 0, MOST_CONNECTIONS),
        ],
        [
            "idle-timeout",
            None,
            0,
            "Seconds without a byte in either direction after which a connection is closed. "
            "0 for no limit.",
            seconds("idle-timeout", "for no limit", LEAST_IDLE_TIMEOUT),
        ],
        [
            "keepalive",
            None,
            KEEPALIVE,
            "Seconds after which TCP asks a silent client whether it is still there. One that "
            "does not answer is closed after about twice that time. 0 never asks.",
            seconds("keepalive", "never asks", LEAST_KEEPALIVE, MOST_KEEPALIVE),
        ],
        [
            "max-bytes-per-second",
            None,
            0,
            "Maximum read rate per connection, in bytes per second; K, M and G are 1024-based. "
            "0 for no limit.",
            size("max-bytes-per-second", "for no limit", MOST_BYTES_PER_SECOND),
        ],
        [
            "proxy-protocol",
            None,
            ProxyMode.OFF,
            "PROXY protocol headers, v1 and v2, which carry the client's address: off, "
            "optional, or required.",
            _one_of("proxy-protocol", ProxyMode, "mode"),
        ],
        ["tls-client-ca", None, None, "PEM file of CAs: TLS clients need a certificate of one."],
        [
            "tls-min-version",
            None,
            None,
            "Lowest version of TLS that ssl: and tls: listeners accept: 1.2 or 1.3. [default: 1.2]",
            _one_of("tls-min-version", MinVersion, "version"),
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
        [
            "worker-timeout",
            None,
            30,
            "Seconds without a sign of life after which a worker is killed and replaced. "
            "0 for never.",
            seconds("worker-timeout", "never kills one", LEAST_WORKER_TIMEOUT),
        ],
    ]

    def __init__(self) -> None:
        super().__init__()
        self["reuse-address"] = True
        self["reuse-port"] = False
        self["listen"] = []
        self["proxy-from"] = []
        self["status-host"] = []

    def opt_listen(self, endpoint: str) -> None:
        """Listen on a Twisted server endpoint, such as tcp:9999, tcp6:9999, 192.0.2.1:9999,
        [2001:db8::1]:9999, unix:/run/echo.sock, ssl:9999:privateKey=key.pem:certKey=cert.pem,
        systemd:domain=INET:index=0. Repeatable."""
        self["listen"].append(endpoint)

    def opt_proxy_from(self, network: str) -> None:
        """Trust PROXY headers from this network, such as 192.0.2.0/24 or 2001:db8::/32, and no
        longer those from loopback. Repeatable. [default: loopback]"""
        try:
            self["proxy-from"].append(ipaddress.ip_network(network))
        except ValueError:
            raise bad(
                "proxy-from",
                network,
                _not_a_network(network),
                "an IPv4 or IPv6 network, such as 192.0.2.0/24 or 2001:db8::/32",
            ) from None

    def opt_status_host(self, name: str) -> None:
        """Answer requests to --status that are for this host name, besides those for an IP
        address or localhost. Repeatable."""
        if not re.fullmatch(r"[0-9A-Za-z_-]+(\.[0-9A-Za-z_-]+)*\.?", name, re.ASCII):
            raise bad("status-host", name, "not a host name", "a name, such as echo.example")
        self["status-host"].append(name)

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
            unexpected = on_one_line(repr(args[0]))
            raise usage.UsageError(f"unexpected argument {unexpected}; allowed: options only")

    def postOptions(self) -> None:
        """Apply the rules that concern more than one option.

        :raises usage.UsageError: if options contradict each other.
        """
        if self["port"] is None and not self["listen"]:
            self["port"] = _DEFAULT_PORT
        if self["port"] is None and self["interface"] is not None:
            raise bad(
                "interface",
                self["interface"],
                "there is no --port to bind",
                r"with --port, or an address in --listen, such as 192.0.2.1:9999",
            )
        if self["port"] is not None and self["interface"] is None:
            self["interface"] = _DEFAULT_INTERFACE
        program: Mapping[str, Any] = self.parent or {}
        obstacle = pid_file.obstacle(program)
        if obstacle is not None:
            raise bad("pidfile", program["pidfile"], obstacle, pid_file.ALLOWED)
        if self["log-format"] is LogFormat.JSON and program.get("syslog"):
            raise bad("log-format", "json", "the log goes to syslog", "text, or without --syslog")
        self._check_tls()
        if self["proxy-from"] and self["proxy-protocol"] is ProxyMode.OFF:
            raise bad(
                "proxy-from",
                self["proxy-from"][0],
                "PROXY headers are off",
                "only with --proxy-protocol optional or required",
            )

    def _check_tls(self) -> None:
        """Apply the rules that depend on whether a listener speaks TLS."""
        over_tls = [
            each for each in self["listen"] if parse_endpoint(each).kind in tls_endpoint.FORMS
        ]
        if over_tls and self["proxy-protocol"] is not ProxyMode.OFF:
            raise bad(
                "proxy-protocol",
                self["proxy-protocol"],
                "a balancer sends the header before the TLS handshake, which "
                f"{over_tls[0]} does not read",
                "listeners without TLS",
            )
        if self["status-host"] and self["status"] is None:
            raise bad(
                "status-host", self["status-host"][0], "there is no --status", "with --status"
            )
        for option in ("tls-client-ca", "tls-min-version"):
            if self[option] is not None and not over_tls:
                raise bad(option, self[option], "no TLS listener", "with --listen ssl: or tls:")

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
                error = usage.UsageError(
                    explain_getopt(error.__context__, self.longOpt, self.parent)
                )
            if self.parent is None:
                raise error from None
            raise CannotStartError(str(error)) from None
