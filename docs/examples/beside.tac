"""The echo, on two endpoints, beside another service: ``twistd -ny beside.tac``.

The other one logs every ten seconds what the echo has carried.
"""

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from echoproto import EchoFactory, EchoService, TCPEndpoint

log = Logger("totals")
factory = EchoFactory(log="connections")


def tell_totals() -> None:
    log.info(
        "{factory.live} live of {factory.accepted}, {factory.bytes_echoed} bytes echoed",
        factory=factory,
    )


both = MultiService()
EchoService(
    [
        TCPEndpoint(reactor, 9999, interface="::1", backlog=4096),
        serverFromString(reactor, "unix:echo.sock"),
    ],
    factory,
).setServiceParent(both)
TimerService(10, tell_totals).setServiceParent(both)

application = Application("echo-and-totals")
both.setServiceParent(application)
