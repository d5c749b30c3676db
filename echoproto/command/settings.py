"""What the options of ``twistd echo`` say, as typed values: everything below works on these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from echoproto.command.json_log import LogFormat
from echoproto.command.options import Options
from echoproto.core.connection_log import LogDetail
from echoproto.limits.limits import Limits
from echoproto.net.tls_settings import TLSSettings
from echoproto.proxy_protocol.gate import ProxyHeaders
from echoproto.workers.process import cores


@dataclass(frozen=True)
class Settings:
    """The options, validated.

    :ivar port: where ``TCPEndpoint`` listens; ``None`` if only endpoint strings say where.
    :ivar listen: endpoint strings.
    :ivar workers: how many processes serve.
    :ivar tls: what clients of ``ssl:`` and ``tls:`` strings need.
    :ivar status: where the status is served, if it is: an endpoint string or a TCP port.
    :ivar status_hosts: the names under which the status is asked for.
    :ivar shown: all options as text, as the status page shows them.
    """

    port: int | None
    interface: str
    listen: tuple[str, ...]
    backlog: int
    reuse_address: bool
    reuse_port: bool
    fast_lane: bool
    workers: int
    worker_timeout: float
    log: LogDetail
    log_format: LogFormat
    limits: Limits
    proxy_headers: ProxyHeaders | None
    drain_timeout: float
    drain_delay: float
    tls: TLSSettings
    keepalive: float
    status: str | None
    status_hosts: tuple[str, ...]
    shown: Mapping[str, str]

    @classmethod
    def from_options(cls, options: Options) -> Settings:
        """Return the settings that a parsed command line describes.

        :param options: parsed.
        """
        return cls(
            port=options["port"],
            interface=options["interface"] or "",
            listen=tuple(options["listen"]),
            backlog=options["backlog"],
            reuse_address=options["reuse-address"],
            reuse_port=options["reuse-port"],
            fast_lane=options["lane"] == "fast",
            workers=options["workers"] or cores(),
            worker_timeout=options["worker-timeout"],
            log=options["log"],
            log_format=options["log-format"],
            limits=Limits(
                max_connections=options["max-connections"],
                max_per_source=options["max-per-source"],
                idle_timeout=options["idle-timeout"],
                max_bytes_per_second=options["max-bytes-per-second"],
            ),
            proxy_headers=ProxyHeaders.for_mode(options["proxy-protocol"], options["proxy-from"]),
            drain_timeout=options["drain-timeout"],
            drain_delay=options["drain-delay"],
            tls=TLSSettings(options["tls-client-ca"], options["tls-min-version"]),
            keepalive=options["keepalive"],
            status=options["status"],
            status_hosts=tuple(options["status-host"]),
            shown=_shown(options),
        )


def _shown(options: Mapping[str, object]) -> dict[str, str]:
    shown = {}
    for name, value in options.items():
        if value is None or value == []:
            continue
        if isinstance(value, bool):
            value = "on" if value else "off"
        words = value if isinstance(value, list) else [value]
        shown[name] = " ".join(str(each) for each in words)
    return shown
