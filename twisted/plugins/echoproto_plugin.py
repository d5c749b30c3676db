"""The door: it tells twistd and twist that there is a service named ``echo``."""

from twisted.application.service import ServiceMaker

# Imported by name only when the subcommand is used, so that listing plugins
# costs nothing and installs no reactor.
echo = ServiceMaker(
    "echoproto",
    "echoproto.command.tap",
    "Return every byte received: an echo service (RFC 862) that loses nothing.",
    "echo",
)
