"""TLS contexts, from files of certificates."""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Callable

from echoproto.probe.wire.place import TargetError

__all__ = ["tls_context"]


def tls_context(
    ca: str | None, insecure: bool, cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Return a context; the arguments are those of :class:`Target`.

    Raises:
        TargetError: for a file that cannot be read or contains no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif ca is None:
        context.load_default_certs()
    if ca is not None:
        _load("--ca", ca, lambda: context.load_verify_locations(ca))
    if cert is not None:
        # With an empty password, an encrypted key is an error instead of a prompt.
        _load(
            "--cert",
            cert if key is None else f"{cert} with --key {key}",
            lambda: context.load_cert_chain(cert, key, password=""),
        )
    return context


def _load(option: str, value: str, load: Callable[[], None]) -> None:
    try:
        load()
    except OSError as error:  # ssl.SSLError is one
        reason = os.strerror(error.errno or errno.EIO)
        if isinstance(error, ssl.SSLError):
            reason = f"no usable certificate or key ({error.reason or 'not PEM'})"
        raise TargetError(f"{option} {value}: {reason}") from None
