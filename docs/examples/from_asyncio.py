"""The echo service in an asyncio program, which runs the event loop."""

import asyncio
from typing import Any

from twisted.internet import asyncioreactor

from echoproto import EchoService, TCPEndpoint


async def main() -> None:
    # Twisted uses the running loop. Install its reactor before anything else imports one.
    loop = asyncio.get_running_loop()
    asyncioreactor.install(loop)
    from twisted.internet import reactor as installed

    # The loop is running already. startRunning() tells the reactor so; run() would block.
    reactor: Any = installed
    reactor.startRunning(installSignalHandlers=False)
    service = EchoService(TCPEndpoint(reactor, 0), reactor=reactor)
    service.startService()

    address: Any = service.ports[0].getHost()
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    writer.write(b"data")
    writer.write_eof()
    print(await reader.read())
    writer.close()

    await service.stopService().asFuture(loop)


if __name__ == "__main__":
    asyncio.run(main())
