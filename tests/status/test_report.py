"""What one process reports, and how several reports add up."""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.core.stats import Stats
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report, total
from tests.status.played import REPORT


def test_it_holds_what_the_factory_counted() -> None:
    factory = EchoFactory()
    connections = []
    for n in range(3):
        client = IPv4Address("TCP", f"192.0.2.{n // 2}", 5000 + n)
        connection = factory.buildProtocol(client)
        connection.makeConnection(StringTransport(peerAddress=client))
        connection.dataReceived(b"x" * n)
        connections.append(connection)
    connections[2].connectionLost(Failure(ConnectionDone()))
    report = Report.of(factory, LoopLag(Clock()), {"192.0.2.0": 2})
    assert (report.pid, report.live) == (os.getpid(), 2)
    assert report.stats == factory.stats
    assert (report.stats.accepted, report.stats.bytes_echoed) == (3, 3)
    assert report.sources == {"192.0.2.0": 2}
    assert Report.of(factory, LoopLag(Clock()), {}) == replace(report, sources={})


def test_its_way_through_a_message_changes_nothing() -> None:
    assert Report.from_dict(json.loads(json.dumps(REPORT.as_dict()))) == REPORT


def test_the_total() -> None:
    both = total([REPORT, replace(REPORT, pid=8, lag=0.1, sources={"192.0.2.1": 5})])
    assert (both.pid, both.live) == (0, 6)
    assert both.stats == REPORT.stats + REPORT.stats
    assert both.sources == {"192.0.2.1": 7, "2001:db8::/64": 1}
    assert (both.lag, both.max_lag) == (0.25, 0.5)


def test_a_process_that_has_ended_has_no_connections() -> None:
    ended = REPORT.ended()
    assert (ended.live, ended.sources, ended.lag, ended.max_lag) == (0, {}, 0.0, 0.0)
    assert ended.stats == REPORT.stats


@given(st.lists(st.integers(0, 2**40), max_size=5))
def test_no_count_is_lost_in_a_total(counts: list[int]) -> None:
    stats = [Stats(accepted=n, bytes_echoed=2 * n, refused=Counter(source=n)) for n in counts]
    whole = total(Report(stats=each) for each in stats).stats
    assert whole.accepted == sum(counts)
    assert whole.bytes_echoed == 2 * sum(counts)
    assert whole.refused["source"] == sum(counts)
