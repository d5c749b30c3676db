"""Runs a session on sockets and judges what came back.

The one rule: what comes back is a prefix of what was sent, and complete at each ``await`` and
at the end. No expectation has to be written down, so any bytes can be sent.

Reading and writing are interleaved in one thread, so an exchange cannot deadlock itself; each
``send`` is a write of its own, with Nagle's algorithm off. An exchange ends in bounded time
whatever the path does: a wait ends after ``Limits.stall`` seconds without progress, a
conversation after ``Limits.total``. It uses bounded memory: the first wrong byte ends the
conversation, so nothing beyond what was sent is kept. With ``Limits.capture`` it goes on, and
keeps so many bytes.

Where half-close survives the path, the end of a conversation is judged by EOF: this side closes
its sending side and reads to the end, which needs no timeout even if bytes are missing.
Elsewhere it waits for the bytes until the stall timeout.
"""

from __future__ import annotations

from echoproto.probe.script.conversation import Conversation, Session
from echoproto.probe.wire.connector import Connector
from echoproto.probe.wire.limits import Limits
from echoproto.probe.wire.loop import Loop
from echoproto.probe.wire.running import Running
from echoproto.probe.wire.verdict import Outcome

__all__ = ["run", "run_all"]


def run(script: Conversation | Session, connector: Connector, limits: Limits) -> Outcome:
    """Run a session and judge it.

    Args:
        script: the session, or its only conversation.
        connector: where to connect.
        limits: how long to wait.

    Raises:
        LocalError: if this machine is out of ports, descriptors or memory.
        TargetError: if the session cannot be run with the target.
    """
    (outcome,) = run_all([script], connector, limits)
    return outcome


def run_all(
    scripts: list[Conversation | Session] | list[Conversation] | list[Session],
    connector: Connector,
    limits: Limits,
    together: bool = True,
) -> list[Outcome]:
    """Run several independent sessions; return their outcomes in order.

    Args:
        scripts: the sessions.
        connector: where to connect.
        limits: how long to wait.
        together: whether at the same time; else one after the other.

    Raises:
        LocalError: if this machine is out of ports, descriptors or memory.
        TargetError: if a session cannot be run with the target.
    """
    loop = Loop()
    running = [Running(Session.of(script), connector, limits) for script in scripts]
    try:
        for one in running:
            loop.add(one)
            while loop and not together:
                loop.turn()
        while loop:
            loop.turn()
    finally:
        loop.close()
    return [one.outcome for one in running if one.outcome is not None]
