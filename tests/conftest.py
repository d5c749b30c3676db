"""Settings for all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# A shell that starts the tests in the background has them ignore SIGINT, and
# every process that they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The time that an example takes depends on the load of the machine.
settings.register_profile("echoproto", deadline=None)
settings.load_profile("echoproto")
