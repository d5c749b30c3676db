"""Settings for all tests."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from hypothesis import settings

from tests.twisted_versions import HAS_BINDINGS

# A shell that starts the tests in the background has them ignore SIGINT, and
# every process that they start would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Otherwise each server that a test starts compiles the package, and each run all tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The time that an example takes depends on the load of the machine.
settings.register_profile("echoproto", deadline=None)
settings.load_profile("echoproto")


def pytest_configure(config: pytest.Config) -> None:
    """Bear with what an older Twisted does."""
    if not HAS_BINDINGS:
        # It leaves a socket that cannot be bound to the garbage collector.
        config.addinivalue_line(
            "filterwarnings",
            "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning",
        )
