"""What is wrong with an endpoint string, from the exception of its parser."""

from __future__ import annotations

import os
import re

_COLON = r" (a colon that is part of one is written \:)"


def explain_parse_error(error: Exception, kind: str) -> str:
    """Say what is wrong with a string.

    :param error: what its parser raised.
    :param kind: what the string begins with.
    """
    said = str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else said
    if kind == "systemd" and not isinstance(error, (TypeError, ValueError)):
        return _no_such_inherited(error)
    missing = re.search(r"missing .*argument.*?: (.*)", said)
    if missing:
        return f"without {missing[1]}".replace("'", "")
    unexpected = re.search(r"unexpected keyword argument '(.*)'", said)
    if unexpected:
        return f"no such argument: {unexpected[1]}"
    if "positional argument" in said:
        return f"too many arguments{_COLON}"
    if "multiple values" in said:
        return f"{said.rpartition(' ')[2]} twice{_COLON}".replace("'", "")
    number = re.search(r"invalid literal for int\(\) with base \d+: (.*)", said)
    if number:
        return f"not a number: {number[1]}"
    return said[:1].lower() + said[1:].rstrip(".")


def _no_such_inherited(error: Exception) -> str:
    if isinstance(error, AttributeError):
        return "no such domain"
    names = os.environ.get("LISTEN_FDNAMES")
    if names:
        return f"no such inherited socket; LISTEN_FDNAMES: {names}"
    # Twisted uses LISTEN_FDS only with the names, which systemd always sets.
    return (
        "no socket was inherited with LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES "
        "(systemd-socket-activate needs --fdname)"
    )
