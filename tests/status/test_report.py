"""What one process tells, and how that of several adds up."""

from __future__ import annotations

import json
import os
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from echoproto.core.factory import EchoFactory
from echoproto.status.lag import LoopLag
from echoproto.status.report import Report, total
from tests.status.played import REPORT


def test_it_tells_what_the_factory_counted() -> None:
    factory = EchoFactory()
    factory.refused["source"] = 2
    connections = []
    for n in range(3):
        client = IPv4Address("TCP", f"192.0.2.{n // 2}", 5000 + n)
        connection = factory.buildProtocol(client)
        connection.makeConnection(StringTransport(peerAddress=client))
        connection.dataReceived(b"x" * n)
        connections.append(connection)
    connections[2].connectionLost(Failure(ConnectionDone()))
    report = Report.of(factory, LoopLag(Clock()), sources=True)
    assert report.pid == os.getpid()
    assert (report.accepted, report.live, report.failed, report.silent) == (3, 2, 0, 0)
    assert (report.bytes_echoed, report.bytes_discarded) == (3, 0)
    assert report.refused == {"source": 2}
    assert (sum(report.durations), report.seconds) == (1, factory.seconds)
    assert report.sources == {"192.0.2.0": 2}
    assert Report.of(factory, LoopLag(Clock()), sources=False) == replace(report, sources={})


def test_its_way_through_a_message_changes_nothing() -> None:
    sent = json.loads(json.dumps(REPORT.as_message()))
    assert Report(**sent).as_message() == sent
    assert total([Report(**sent)]) == total([REPORT])


def test_the_total() -> None:
    both = total([REPORT, replace(REPORT, pid=8, lag=0.1, sources={"192.0.2.1": 5})])
    assert (both.pid, both.accepted, both.live, both.failed, both.silent) == (0, 20, 6, 2, 4)
    assert both.refused == {"source": 8}
    assert both.ended == {"idle": 12}
    assert (both.bytes_echoed, both.bytes_discarded, both.bytes_unreturned) == (2000, 10, 18)
    assert list(both.durations) == [2, 4, 6, 2, 0, 0, 0, 0, 0]
    assert both.seconds == 3.0
    assert both.sources == {"192.0.2.1": 7, "2001:db8::/64": 1}
    assert (both.lag, both.max_lag) == (0.25, 0.5)


def test_a_process_that_is_gone_has_no_connections() -> None:
    over = REPORT.over()
    assert (over.live, over.sources, over.lag, over.max_lag) == (0, {}, 0.0, 0.0)
    assert (over.accepted, over.bytes_echoed) == (REPORT.accepted, REPORT.bytes_echoed)


@given(st.lists(st.integers(0, 2**40), max_size=5))
def test_no_count_is_lost_in_a_total(counts: list[int]) -> None:
    reports = [Report(accepted=n, bytes_echoed=2 * n, refused={"source": n}) for n in counts]
    whole = total(reports)
    assert whole.accepted == sum(counts)
    assert whole.bytes_echoed == 2 * sum(counts)
    assert whole.refused.get("source", 0) == sum(counts)
