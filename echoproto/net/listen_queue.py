"""The length of the accept queue of a listening socket: requested, clamped, effective.

A listening TCP socket has two queues. Connections whose handshake is not
complete wait in the *SYN queue*. Established connections that the program has
not accepted yet wait in the *accept queue*. ``listen(2)`` requests a length for
the accept queue, and Linux silently reduces it to ``net.core.somaxconn``. This
module reads the limits, clamps the requested length so that it can be logged,
and reads the effective length back.

Sources: ``listen(2)``, ``tcp(7)``, Documentation/networking/ip-sysctl.rst
(``somaxconn``, ``tcp_max_syn_backlog``, ``tcp_syncookies``) and
``tcp_conn_request()`` in net/ipv4/tcp_input.c of Linux 4.3 and later.
"""

from __future__ import annotations

import re
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from echoproto.base.tcp_info import read_tcp_info

# listen(2) takes an int, and so do the three sysctls.
INT_MAX = 2**31 - 1

# From net/tcp_states.h.
_TCP_LISTEN = 10
# struct tcp_info: eight one-byte fields, then __u32 rto, ato, snd_mss,
# rcv_mss, unacked, sacked. For a listening socket the last two are the length
# of the accept queue and its limit.
_LISTEN_INFO = struct.Struct("=B7x16xII")


@dataclass(frozen=True)
class ListenQueueLimits:
    """The limits of the listen queues in this network namespace.

    A limit that is not known is ``None``.

    :ivar max_accept_queue: ``net.core.somaxconn``, in connections.
    :ivar max_syn_backlog: ``net.ipv4.tcp_max_syn_backlog``, in handshakes.
    :ivar syncookies: ``net.ipv4.tcp_syncookies``: 0 never, 1 when the SYN
        queue is full, 2 always.
    :ivar unknown: the name of each limit that could not be read, and the reason.
    """

    max_accept_queue: int | None = None
    max_syn_backlog: int | None = None
    syncookies: int | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class AcceptQueue:
    """The accept queue of one listening socket at one moment.

    :ivar queued: connections that are established and not accepted yet.
    :ivar limit: the effective length. The queue is full, and the kernel drops
        handshakes, when more than this number of connections wait.
    """

    queued: int
    limit: int


def parse_limit(content: bytes) -> int:
    """Parse the content of a sysctl file.

    :param content: the content of the file.
    :returns: the number.
    :raises ValueError: if the content is not a single number from 0 to 2**31 - 1.
    """
    text = content.strip()
    if not text:
        raise ValueError("the file is empty")
    if not re.fullmatch(rb"-?[0-9]+", text):
        raise ValueError(f"not a number: {_shortened(text)}")
    if text.startswith(b"-"):
        raise ValueError(f"negative: {_shortened(text)}")
    # Every int has at most ten digits. Longer texts are not converted.
    digits = text.lstrip(b"0") or b"0"
    if len(digits) > 10 or int(digits) > INT_MAX:
        raise ValueError(f"too large: {_shortened(text)}")
    return int(digits)


def read_limits(sysctls: Path = Path("/proc/sys")) -> ListenQueueLimits:
    """Read the limits of this network namespace.

    This function never fails. A limit that cannot be read is unknown, and
    :attr:`ListenQueueLimits.unknown` contains the reason.

    :param sysctls: where the kernel's settings are mounted.
    """
    if not sys.platform.startswith("linux"):
        return ListenQueueLimits(unknown=("net.core.somaxconn: only Linux has it",))
    unknown: list[str] = []

    def read(name: str) -> int | None:
        path = sysctls.joinpath(*name.split("."))
        try:
            with path.open("rb") as file:
                # A sysctl is one short line. Longer content is not valid.
                return parse_limit(file.read(64))
        except FileNotFoundError:
            unknown.append(f"{name}: no such file")
        except PermissionError:
            unknown.append(f"{name}: not readable by this user")
        except OSError as error:
            unknown.append(f"{name}: {error.strerror}")
        except ValueError as error:
            unknown.append(f"{name}: {error}")
        return None

    return ListenQueueLimits(
        max_accept_queue=read("net.core.somaxconn"),
        max_syn_backlog=read("net.ipv4.tcp_max_syn_backlog"),
        syncookies=read("net.ipv4.tcp_syncookies"),
        unknown=tuple(unknown),
    )


def clamp_backlog(asked: int, limits: ListenQueueLimits) -> int:
    """Return the length of the accept queue to request from the kernel.

    The rule is ``min(max(asked, 0), max_accept_queue)``. If the limit is unknown,
    there is no upper bound.

    :param asked: the requested length, in connections.
    :param limits: the limits of the kernel.
    """
    wanted = max(asked, 0)
    if limits.max_accept_queue is None:
        return wanted
    return min(wanted, limits.max_accept_queue)


def accept_queue(port: object, asked: int | None = None) -> AcceptQueue | None:
    """Return the current state of the accept queue of a listening port.

    It is read from ``TCP_INFO`` of the listening socket, which needs no privilege. Some
    kernels, as gVisor, answer with zeros; an answer that cannot be true is not used.

    :param port: the result of an endpoint's ``listen``: an ``IListeningPort``
        whose ``socket`` is a listening socket.
    :param asked: the requested backlog; if it is ``None``, the port's ``backlog`` counts,
        which is ``None`` for an inherited socket.
    :returns: ``None`` if the queue cannot be read: on other systems than Linux, for
        a UNIX socket, and for a closed port.
    """
    sock = getattr(port, "socket", None)
    info = None if sock is None else read_tcp_info(sock, _LISTEN_INFO)
    if info is None:
        return None
    state, queued, limit = info
    least = _least(getattr(port, "backlog", None) if asked is None else asked)
    # A queue holds one connection more than its limit.
    if state != _TCP_LISTEN or limit < least or queued > limit + 1:
        return None
    return AcceptQueue(queued, limit)


def _least(asked: int | None) -> int:
    """Return the least limit that a queue can have.

    :param asked: what was asked for; ``None`` if that is not known.
    """
    longest = read_limits().max_accept_queue
    if asked is None or longest is None:
        # Only a backlog of 0 makes a limit of 0, and no one passes on such a socket.
        return 0 if asked is not None and asked <= 0 else 1
    return min(max(asked, 0), longest)


def describe(asked: int | None, queue: AcceptQueue | None, limits: ListenQueueLimits) -> str:
    """Describe both queues in one line, for the log.

    :param asked: the requested backlog; ``None`` for an inherited socket.
    :param queue: the effective accept queue; ``None`` if it cannot be read.
    :param limits: the limits of the kernel.
    """
    request = "inherited" if asked is None else f"asked {asked}"
    somaxconn = _known(limits.max_accept_queue)
    effective = "length unknown" if queue is None else f"holds {queue.limit}"
    parts = [f"accept queue {effective} ({request}, net.core.somaxconn {somaxconn})"]
    if queue is not None:
        parts.append(_syn_queue(queue.limit, limits))
    if limits.unknown:
        parts.append("; ".join(limits.unknown))
    return "; ".join(parts)


def clamp_warning(asked: int, limits: ListenQueueLimits) -> str | None:
    """Return a warning if the requested backlog is clamped, with the way to raise the limit.

    :param asked: the requested backlog.
    :param limits: the limits of the kernel.
    :returns: one line, or ``None`` if the backlog is not clamped.
    """
    clamped = clamp_backlog(asked, limits)
    if clamped == asked:
        return None
    if asked < 0:
        return f"backlog {asked} is below 0: clamped to {clamped}"
    wanted = min(asked, INT_MAX)
    return (
        f"backlog {asked} exceeds net.core.somaxconn: clamped to {clamped}. "
        "To raise the limit of this network namespace: "
        f"sysctl -w net.core.somaxconn={wanted}; "
        "to make it permanent: "
        f"echo 'net.core.somaxconn = {wanted}' > /etc/sysctl.d/90-somaxconn.conf"
    )


def _syn_queue(limit: int, limits: ListenQueueLimits) -> str:
    """Describe the SYN queue (Linux 4.3 and later)."""
    if limits.syncookies is None:
        return f"SYN queue holds {limit} (net.ipv4.tcp_syncookies unknown)"
    cookies = f"net.ipv4.tcp_syncookies {limits.syncookies}"
    if limits.syncookies >= 2:
        return f"SYN queue unused, every SYN is answered with a cookie ({cookies})"
    if limits.syncookies == 1:
        return f"SYN queue holds {limit}, then SYNs are answered with cookies ({cookies})"
    if limits.max_syn_backlog is None:
        return f"SYN queue holds {limit}, then SYNs are dropped ({cookies})"
    # The last quarter is reserved for peers that completed a handshake before.
    unproven = limits.max_syn_backlog - (limits.max_syn_backlog >> 2)
    return (
        f"SYN queue holds {min(limit, unproven)} from new peers and {limit} in total, "
        f"then SYNs are dropped ({cookies}, "
        f"net.ipv4.tcp_max_syn_backlog {limits.max_syn_backlog})"
    )


def _known(limit: int | None) -> str:
    return "unknown" if limit is None else str(limit)


def _shortened(text: bytes) -> str:
    return repr(text if len(text) <= 20 else text[:20] + b"...")[1:]
