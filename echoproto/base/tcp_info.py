"""``TCP_INFO``: what Linux tells of a TCP socket, without any privilege.

Source: ``tcp(7)``, and ``struct tcp_info`` in include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import socket
import struct

# Python has this constant on Linux only.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)


def read_tcp_info(sock: socket.socket, layout: struct.Struct) -> tuple[int, ...] | None:
    """Read the first fields of a socket's ``struct tcp_info``.

    :param sock: a TCP socket, listening or connected.
    :param layout: the fields, with padding for those that are not needed.
    :returns: the fields; ``None`` outside Linux, for a socket that is closed or not TCP,
        and if the kernel's structure is shorter (an older Linux, gVisor).
    """
    if _TCP_INFO is None:
        return None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, layout.size)
    except OSError:
        return None
    return layout.unpack(info) if len(info) == layout.size else None
