"""The echo service in a .tac file: ``twistd -ny echo.tac``."""

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString

from echoproto import EchoService

endpoint = serverFromString(reactor, "tcp:9999:interface=127.0.0.1:backlog=1024")

application = Application("echo")
EchoService(endpoint, drain_timeout=5).setServiceParent(application)
