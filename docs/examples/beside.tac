"""The echo service on two endpoints, beside another service: ``twistd -ny beside.tac``.

The other service logs every ten seconds how many bytes the echo service has returned.
"""

from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import Application, MultiService
from twisted.internet import reactor as global_reactor
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger

from echoproto import EchoFactory, EchoService, TCPEndpoint

reactor: Any = global_reactor
log = Logger("totals")
factory = EchoFactory(log="connections")


def log_totals() -> None:
    log.info(
        "{live} of {stats.accepted} connections open, {stats.bytes_echoed} bytes echoed",
        live=factory.live,
        stats=factory.stats,
    )


both = MultiService()
EchoService(
    [
        TCPEndpoint(reactor, 9999, interface="::1", backlog=4096),
        serverFromString(reactor, "unix:echo.sock"),
    ],
    factory,
).setServiceParent(both)
TimerService(10, log_totals).setServiceParent(both)

application = Application("echo-and-totals")
both.setServiceParent(application)
