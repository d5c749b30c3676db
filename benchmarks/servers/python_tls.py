"""The interpreter's floor over TLS: epoll and the module ssl, and what correctness needs.

It serves clients that send a message and wait for it. One that never reads blocks it: the floor
of a handshake and of small messages needs nothing else.

usage: python_tls.py FILE

FILE has a private key and a certificate.
"""

import select
import socket
import ssl
import sys

SIZE = 64 * 1024


def serve(pem: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    listening.setblocking(False)
    print(f"listening on 127.0.0.1:{listening.getsockname()[1]}", flush=True)
    ready = select.epoll()
    ready.register(listening.fileno(), select.EPOLLIN)
    open_sockets: dict[int, ssl.SSLSocket] = {}
    while True:
        for fd, _ in ready.poll(-1, 1024):
            if fd == listening.fileno():
                accept(listening, ready, context, open_sockets)
            elif not echo(open_sockets[fd]):
                open_sockets.pop(fd).close()


def accept(
    listening: socket.socket,
    ready: select.epoll,
    context: ssl.SSLContext,
    open_sockets: dict[int, ssl.SSLSocket],
) -> None:
    """Accept every client that waits."""
    while True:
        try:
            sock, _ = listening.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        secure = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        open_sockets[secure.fileno()] = secure
        ready.register(secure.fileno(), select.EPOLLIN)


def echo(sock: ssl.SSLSocket) -> bool:
    """Return what arrived; whether the connection goes on. A read continues the handshake."""
    try:
        data = sock.read(SIZE)
        if data:
            sock.write(data)
            return True
        sock.unwrap()
    except ssl.SSLWantReadError:
        return True
    except OSError:
        pass
    return False


if __name__ == "__main__":
    serve(sys.argv[1])
