from __future__ import annotations

import socket

from echoproto.probe.wire.proxy_header import proxy_header


def test_proxy_headers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sock:
            own = sock.getsockname()[1]
            assert proxy_header(None, sock, known=True) == b""
            v1 = proxy_header("v1", sock, known=True)
            assert v1 == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (own, port)
            v2 = proxy_header("v2", sock, known=True)
            assert v2[:16] == b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"
            addresses = b"\x7f\0\0\1" * 2 + own.to_bytes(2, "big") + port.to_bytes(2, "big")
            assert v2[16:] == addresses
            # Through a proxy, these are not the addresses of the two ends.
            assert proxy_header("v1", sock, known=False) == b"PROXY UNKNOWN\r\n"
    one, other = socket.socketpair()
    with one, other:
        assert proxy_header("v1", one, known=True) == b"PROXY UNKNOWN\r\n"
        assert len(proxy_header("v2", one, known=True)) == 16
