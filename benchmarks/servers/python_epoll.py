"""The interpreter's floor: epoll, os.read and os.write in a loop, and what correctness needs.

What a server in Python costs in addition to this is its own.
"""

import os
import select
import socket

# The size of a read: a large buffer is allocated only where the last read was full.
LEAST, MOST = 4 * 1024, 256 * 1024


def serve() -> None:
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setblocking(False)
    print(f"listening on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
    ready = select.epoll()
    ready.register(listening.fileno(), select.EPOLLIN)
    kept: dict[int, bytes] = {}
    sizes: dict[int, int] = {}
    while True:
        for fd, _ in ready.poll(-1, 1024):
            if fd == listening.fileno():
                accept(listening, ready)
                continue
            data = kept.pop(fd, None)
            waited = data is not None
            try:
                if data is None:
                    size = sizes.get(fd, LEAST)
                    data = os.read(fd, size)
                    if len(data) == size:
                        sizes[fd] = min(4 * size, MOST)
                sent = os.write(fd, data) if data else 0
            except BlockingIOError:
                if data is None:
                    continue
                sent = 0
            except OSError:
                data, sent = b"", 0
            if not data:
                sizes.pop(fd, None)
                os.close(fd)
            elif sent < len(data):
                kept[fd] = data[sent:]
                if not waited:
                    ready.modify(fd, select.EPOLLOUT)
            elif waited:
                ready.modify(fd, select.EPOLLIN)


def accept(listening: socket.socket, ready: select.epoll) -> None:
    """Accept every client that waits."""
    while True:
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ready.register(sock.detach(), select.EPOLLIN)


if __name__ == "__main__":
    serve()
