"""Echo on trio, whose streams set TCP_NODELAY."""

import trio


async def echo(stream: trio.SocketStream) -> None:
    async for data in stream:
        await stream.send_all(data)


async def serve() -> None:
    await trio.serve_tcp(echo, 0, host="127.0.0.1", backlog=4096)


if __name__ == "__main__":
    trio.run(serve)
