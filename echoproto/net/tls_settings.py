"""What a TLS listener is told, and what can be wrong with its files; imports nothing of TLS."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class MinVersion(str, Enum):
    """The lowest version of TLS that is accepted."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class TLSSettings:
    """What every TLS listener demands of its clients.

    :ivar client_ca: a PEM file with certificates of CAs: a client needs a certificate that
        one of them has issued. ``None`` asks clients for no certificate.
    :ivar min_version: the lowest version of TLS, a :class:`MinVersion` or its value;
        ``None`` is Twisted's choice, 1.2.
    """

    client_ca: str | None = None
    min_version: str | None = None

    def __post_init__(self) -> None:
        if self.min_version is not None and self.min_version not in tuple(MinVersion):
            allowed = ", ".join(MinVersion)
            raise ValueError(f"min_version={self.min_version!r}; allowed: {allowed}")


# What a listener demands unless it is told otherwise.
NO_DEMANDS = TLSSettings()


class TLSFileError(Exception):
    """A file that cannot be used for TLS.

    :ivar path: of the file.
    :ivar reason: what is wrong with it.
    :ivar allowed: what would work.
    """

    def __init__(self, path: str, reason: str, allowed: str) -> None:
        shown = path if path.isprintable() else ascii(path)
        super().__init__(f"{shown}: {reason}")
        self.path = path
        self.reason = reason
        self.allowed = allowed
