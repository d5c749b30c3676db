"""How long the accept queue of a listening socket may be, and is.

A listening TCP socket has two queues. Connections whose handshake is not yet
finished wait in the *SYN queue*; those that are established, but that the
program has not yet accepted, wait in the *accept queue*. ``listen(2)`` asks
for a length of the second, which Linux cuts silently to
``net.core.somaxconn``. Here the limits are read, the wish is clamped in the
open, and what the kernel really gave is read back.

PerSourceLimit: ``listen(2)``, ``tcp(7)``, Documentation/networking/ip-sysctl.rst
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
    """What this kernel, in this network namespace, allows a listen queue.

    Each limit is ``None`` where it is unknown.

    :ivar max_accept_queue: ``net.core.somaxconn``, in connections.
    :ivar max_syn_backlog: ``net.ipv4.tcp_max_syn_backlog``, in handshakes.
    :ivar syncookies: ``net.ipv4.tcp_syncookies``: 0 never, 1 when the SYN
        queue is full, 2 always.
    :ivar unknown: for each limit that could not be read, its name and why.
    """

    max_accept_queue: int | None = None
    max_syn_backlog: int | None = None
    syncookies: int | None = None
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class AcceptQueue:
    """The accept queue of one listening socket at one moment.

    :ivar queued: connections established and not yet accepted.
    :ivar limit: the length that the kernel really gave; the queue is full,
        and further handshakes are dropped, when more than this many wait.
    """

    queued: int
    limit: int


def parse_limit(content: bytes) -> int:
    """Return the number that a sysctl file holds.

    :param content: the file's content, as bytes.
    :raises ValueError: when it is anything but one number from 0 to 2**31 - 1;
        the message says what is wrong with it.
    """
    text = content.strip()
    if not text:
        raise ValueError("the file is empty")
    if not re.fullmatch(rb"-?[0-9]+", text):
        raise ValueError(f"not a number: {_shortened(text)}")
    if text.startswith(b"-"):
        raise ValueError(f"negative: {_shortened(text)}")
    # Ten digits hold every int; longer ones are not worth converting.
    digits = text.lstrip(b"0") or b"0"
    if len(digits) > 10 or int(digits) > INT_MAX:
        raise ValueError(f"absurdly large: {_shortened(text)}")
    return int(digits)


def read_limits(sysctls: Path = Path("/proc/sys")) -> ListenQueueLimits:
    """Read the limits of this network namespace.

    It never fails: a limit that cannot be read is unknown, and
    :attr:`ListenQueueLimits.unknown` says why.

    :param sysctls: where the kernel's settings are mounted.
    """
    if not sys.platform.startswith("linux"):
        return ListenQueueLimits(unknown=("net.core.somaxconn: only Linux has it",))
    unknown: list[str] = []

    def read(name: str) -> int | None:
        path = sysctls.joinpath(*name.split("."))
        try:
            with path.open("rb") as file:
                # A sysctl is one short line; whatever is longer is not one.
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
    """Return the length of the accept queue that may be asked of the kernel.

    The rule is ``min(max(asked, 0), max_accept_queue)``; where the limit is
    unknown there is no upper bound.

    :param asked: the wish, in connections.
    :param limits: what the kernel allows.
    """
    wanted = max(asked, 0)
    if limits.max_accept_queue is None:
        return wanted
    return min(wanted, limits.max_accept_queue)


def accept_queue(port: object) -> AcceptQueue | None:
    """Return the accept queue of a listening port, as the kernel has it now.

    It asks for ``TCP_INFO`` of the listening socket, which needs no privilege.

    :param port: what an endpoint's ``listen`` gave: an ``IListeningPort``
        whose ``socket`` is a listening socket.
    :returns: ``None`` where there is no such thing to read: outside Linux, for
        a UNIX socket, or for a port that is closed.
    """
    sock = getattr(port, "socket", None)
    info = None if sock is None else read_tcp_info(sock, _LISTEN_INFO)
    if info is None:
        return None
    state, queued, limit = info
    return AcceptQueue(queued, limit) if state == _TCP_LISTEN else None


def describe(asked: int | None, queue: AcceptQueue | None, limits: ListenQueueLimits) -> str:
    """Say in one line what was asked, what the kernel gave, and what it will do.

    :param asked: the backlog asked for; ``None`` for a socket that somebody
        else opened.
    :param queue: what was read back.
    :param limits: what was read of the kernel's settings.
    """
    wish = "inherited" if asked is None else f"asked {asked}"
    somaxconn = _known(limits.max_accept_queue)
    given = "length unknown" if queue is None else f"holds {queue.limit}"
    parts = [f"accept queue {given} ({wish}, net.core.somaxconn {somaxconn})"]
    if queue is not None:
        parts.append(_syn_queue(queue.limit, limits))
    if limits.unknown:
        parts.append("; ".join(limits.unknown))
    return "; ".join(parts)


def clamp_warning(asked: int, limits: ListenQueueLimits) -> str | None:
    """Say what the clamp took from a wish, and how to lift the limit.

    :param asked: the backlog asked for.
    :param limits: what the kernel allows.
    :returns: one line, or ``None`` when the wish is granted whole.
    """
    given = clamp_backlog(asked, limits)
    if given == asked:
        return None
    if asked < 0:
        return f"backlog {asked} is below 0: clamped to {given}"
    wanted = min(asked, INT_MAX)
    return (
        f"backlog {asked} is more than net.core.somaxconn allows: clamped to {given}. "
        "To lift the limit, which belongs to this network namespace: "
        f"sysctl -w net.core.somaxconn={wanted}; "
        "to keep it lifted: "
        f"echo 'net.core.somaxconn = {wanted}' > /etc/sysctl.d/90-somaxconn.conf"
    )


def _syn_queue(limit: int, limits: ListenQueueLimits) -> str:
    """Say what the SYN queue will do (Linux >= 4.3)."""
    if limits.syncookies is None:
        return f"SYN queue holds {limit} (net.ipv4.tcp_syncookies unknown)"
    cookies = f"net.ipv4.tcp_syncookies {limits.syncookies}"
    if limits.syncookies >= 2:
        return f"SYN queue unused, every SYN is answered with a cookie ({cookies})"
    if limits.syncookies == 1:
        return f"SYN queue holds {limit}, then SYNs are answered with cookies ({cookies})"
    if limits.max_syn_backlog is None:
        return f"SYN queue holds {limit}, then SYNs are dropped ({cookies})"
    # The last quarter is kept for peers that have proven themselves before.
    unproven = limits.max_syn_backlog - (limits.max_syn_backlog >> 2)
    return (
        f"SYN queue holds {min(limit, unproven)} of new peers and {limit} in all, "
        f"then SYNs are dropped ({cookies}, "
        f"net.ipv4.tcp_max_syn_backlog {limits.max_syn_backlog})"
    )


def _known(limit: int | None) -> str:
    return "unknown" if limit is None else str(limit)


def _shortened(text: bytes) -> str:
    return repr(text if len(text) <= 20 else text[:20] + b"...")[1:]
