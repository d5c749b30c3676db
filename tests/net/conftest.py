"""A reactor of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.asyncioreactor import AsyncioSelectorReactor

from tests.net.serving import REACTORS


@pytest.fixture(params=REACTORS)
def any_reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    reactor = REACTORS[request.param]()
    yield reactor
    if isinstance(reactor, AsyncioSelectorReactor):
        reactor._asyncioEventloop.close()
