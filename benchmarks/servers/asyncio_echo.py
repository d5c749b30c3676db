"""Echo on asyncio's loop or uvloop's, as a Protocol or with streams. Both set TCP_NODELAY.

usage: asyncio_echo.py asyncio|uvloop protocol|streams [FILE]

FILE has a private key and a certificate, for TLS.
"""

import asyncio
import ssl
import sys
from typing import cast


class Echo(asyncio.Protocol):
    """Echoes bytes; pauses reading while the other side does not read."""

    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio.Transport for isinstance().
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


def tls_context(pem: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


async def serve(style: str, pem: str | None = None) -> None:
    tls = tls_context(pem) if pem else None
    if style == "protocol":
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Echo, "127.0.0.1", 0, backlog=4096, ssl=tls)
    else:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=4096, ssl=tls)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    loop_name, *words = sys.argv[1:]
    if loop_name == "uvloop":
        import uvloop

        uvloop.run(serve(*words))
    else:
        asyncio.run(serve(*words))
