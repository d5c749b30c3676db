"""A protocol of your own, with everything that the echo has: ``twistd -ny shout.tac``."""

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString

from echoproto import Echo, EchoFactory, EchoService, Limits


class Shout(Echo):
    """Return what arrives in upper case."""

    def dataReceived(self, data: bytes) -> None:
        # The inherited method returns and counts the bytes, with backpressure.
        super().dataReceived(data.upper())


factory = EchoFactory(
    protocol=Shout,
    log="connections",
    limits=Limits(max_connections=1000, max_per_source=100, idle_timeout=60),
)
endpoint = serverFromString(reactor, "tcp:9999:interface=127.0.0.1")
application = Application("shout")
EchoService(endpoint, factory).setServiceParent(application)
