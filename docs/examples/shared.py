"""Two services that share a factory: they are counted together and stopped separately."""

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react

from echoproto import EchoFactory, EchoService, TCPEndpoint, echo


async def main(reactor: Any) -> None:
    factory = EchoFactory(reactor=reactor)
    first = EchoService(TCPEndpoint(reactor, 0), factory, reactor=reactor)
    second = EchoService(TCPEndpoint(reactor, 0), factory, reactor=reactor)
    for service in (first, second):
        service.startService()

    async def ask(service: EchoService) -> bytes:
        port: Any = service.ports[0].getHost()
        endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", port.port)
        return await echo(endpoint, b"data", timeout=5, reactor=reactor)

    await ask(first)
    await ask(second)
    # A drain ends the connections of its own service only.
    await first.stopService()
    await ask(second)
    print(factory.stats.accepted, "connections,", factory.stats.bytes_echoed, "bytes echoed")
    await second.stopService()


if __name__ == "__main__":
    react(main)
