"""The options of a target, for whatever has options: commands, pytest.

Nothing is imported here, because pytest reads it in every run.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["TARGET_OPTIONS", "TargetOption"]


class TargetOption(NamedTuple):
    """One option of a target.

    Attributes:
        metavar: what its value is called; empty for one without a value.
        text: what it does.
        choices: the values allowed; empty for any.
        is_file: whether the value is the path of a file.
        multiple: whether it may be given several times.
    """

    metavar: str
    text: str
    choices: tuple[str, ...] = ()
    is_file: bool = False
    multiple: bool = False


TARGET_OPTIONS: dict[str, TargetOption] = {
    "ca": TargetOption("FILE", "trust the certificates in FILE (tls:)", is_file=True),
    "cert": TargetOption("FILE", "present the certificate in FILE (tls:)", is_file=True),
    "key": TargetOption("FILE", "its private key, if not in the same file", is_file=True),
    "insecure": TargetOption("", "accept any certificate (tls:)"),
    "server_name": TargetOption("NAME", "send and verify this name (tls:)"),
    "send_proxy": TargetOption("VERSION", "send a PROXY protocol header first", ("v1", "v2")),
    "family": TargetOption("4|6", "use only IPv4, or only IPv6, addresses", ("4", "6")),
    "via": TargetOption(
        "URL", "connect through this proxy (socks5:, socks4:, http: or https:)", multiple=True
    ),
    "skip_banner": TargetOption("", "drop what the server sends first"),
}
"""The keyword arguments of :meth:`Target.parse`, each the value of an option."""
