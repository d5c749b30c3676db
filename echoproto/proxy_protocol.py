"""Whose connection it really is: PROXY protocol headers."""

from __future__ import annotations

from enum import Enum


class ProxyMode(str, Enum):
    """Whether connections begin with a PROXY protocol header."""

    OFF = "off"
    """None does; what looks like one is echoed as all else."""
    OPTIONAL = "optional"
    """Some do."""
    REQUIRED = "required"
    """All do; a connection that does not is closed."""

    def __str__(self) -> str:
        return self.value
