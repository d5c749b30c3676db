"""Send a text to an echo service: ``python ask.py tcp:127.0.0.1:9999 'Hello, echo'``."""

import sys
from typing import Any

from twisted.internet.endpoints import clientFromString
from twisted.internet.task import react

from echoproto import EchoError, echo


async def main(reactor: Any, where: str, words: str) -> None:
    endpoint = clientFromString(reactor, where)
    payload = words.encode()
    try:
        answer = await echo(endpoint, payload, timeout=10, reactor=reactor)
    except EchoError as error:
        raise SystemExit(f"{where}: {error}") from None
    print(f"{len(answer)} bytes came back, {'identical' if answer == payload else 'changed'}")


if __name__ == "__main__":
    react(main, sys.argv[1:])
