"""Why a connection failed, in a network engineer's words."""

from __future__ import annotations

import errno
import ssl

__all__ = ["is_abort", "reason", "tls_reason"]

_WORDS = {
    errno.ECONNREFUSED: "connection refused (nothing listens there)",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network is unreachable",
    errno.ECONNRESET: "connection reset by the other side",
    errno.EPIPE: "the other side has closed the connection",
    errno.ENOTCONN: "connection reset by the other side",
    errno.ENOENT: "there is no such socket file",
    errno.EACCES: "permission denied",
    errno.EAGAIN: "the accept queue is full",
}

# What is known only of a connection that was established, even if the error comes from connect.
# Linux gives ECONNREFUSED for a RST that answers the SYN, EPIPE for one after the other side's
# FIN, and ECONNRESET for any other (tcp_reset in net/ipv4/tcp_input.c). ENOTCONN is what
# getpeername and shutdown give once another call has reported the RST. All other errors of
# connect (ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ...) come before the handshake is complete, and
# ECONNABORTED from this machine (ss -K).
_ABORTS = (errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN)

# An echo without TLS returns the ClientHello, which is an unexpected message.
_NO_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNEXPECTED_MESSAGE")


def is_abort(error: OSError) -> bool:
    """Return whether the other side had accepted the connection, and then aborted it.

    Args:
        error: from connect, or from the first use of a new connection.
    """
    return error.errno in _ABORTS


def reason(error: OSError, timeout: float = 5.0) -> str:
    """Return what a failed connection means.

    Args:
        error: from connect, send or recv.
        timeout: how long connecting was tried, in seconds.
    """
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return f"timed out after {timeout:g} s (packets are filtered, or there is no such host)"
    return _WORDS.get(error.errno or 0, error.strerror or str(error))


def tls_reason(error: ssl.SSLError) -> str:
    """Return what went wrong in TLS."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "the other side closed in the middle of the handshake"
    if error.reason in _NO_TLS:
        return f"the other side does not speak TLS ({error.reason})"
    return (error.reason or str(error)).replace("_", " ").lower()
