"""The service that the command line makes, in a program that runs its own reactor."""

from typing import Any

from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import react

from echoproto import echo
from echoproto.command.tap import Options, makeService


async def main(reactor: Any) -> None:
    options = Options()
    options.parseOptions(["--port", "0", "--drain-timeout", "2"])
    service = makeService(options, reactor)
    service.startService()

    address: Any = service.ports[0].getHost()
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", address.port)
    print(await echo(endpoint, b"data", timeout=5, reactor=reactor))

    await service.stopService()


if __name__ == "__main__":
    react(main)
