"""Faults that do not occur every time."""

from __future__ import annotations

import socket

from tests.probe.faulty_paths.close import EndClosesBoth
from tests.probe.faulty_paths.faults import FaultyPath, MakeRelay, chunks
from tests.probe.faulty_paths.position import flipped_at
from tests.probe.faulty_paths.relay import Path, Relay


def one_in(times: int, faulty: MakeRelay) -> MakeRelay:
    """A path that is faulty for one client in so many, at random."""

    def relay(path: Path, sock: socket.socket, number: int) -> Relay:
        return (faulty if path.random.randrange(times) == 0 else Relay)(path, sock, number)

    return relay


_iac_swallowed = chunks(lambda data: data.replace(b"\xff", b""))

FLAKY_FAULTS = [
    FaultyPath(name, "flaky", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        ("iac-one-in-2", "send ff", "truncated stalled", one_in(2, _iac_swallowed)),
        ("iac-one-in-10", "send ff", "truncated stalled", one_in(10, _iac_swallowed)),
        ("flip-one-in-2", "send 00*4096", "corrupt", one_in(2, flipped_at(4095))),
        ("flip-one-in-10", "send 00*4096", "corrupt", one_in(10, flipped_at(4095))),
        ("end-one-in-2", "send 00; fin", "truncated reset", one_in(2, EndClosesBoth)),
        ("end-one-in-10", "send 00; fin", "truncated reset", one_in(10, EndClosesBoth)),
    ]
]
