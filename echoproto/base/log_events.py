"""The names of log events, which stay when the words of a line change.

A line is known by how it begins; so that its call needs nothing more, its names are
together here. A call may name its event itself, with the member ``event``.
"""

from __future__ import annotations

from typing import Any

# Of lines that other packages log.
OTHER = "other"

# By the begin of the format; the longest that fits counts.
_BY_BEGIN = {
    "a port did not close": "port_stuck",
    "a protocol failed": "protocol_failed",
    "aborted {reason} connection": "connection_aborted",
    "aborting {connections}": "drain_aborting",
    "cannot accept": "accept_failed",
    "cannot answer": "status_failed",
    "cannot create a protocol": "protocol_failed",
    "cannot listen": "listen_failed",
    "cannot remove {path}": "socket_file_left",
    "cannot send to NOTIFY_SOCKET": "notify_failed",
    "cannot serve": "worker_failed",
    "chunk from": "chunk",
    "closed {client}": "connection_closed",
    "closed {clients} waiting": "waiting_clients_closed",
    "closing {address} with": "queued_clients_lost",
    "drain deadline": "drain_deadline",
    "drained": "drained",
    "draining": "draining",
    "end of input": "input_ended",
    "gave up on": "connections_dropped",
    "listening on {address}": "listening",
    "opened {client}": "connection_opened",
    "refused {client}": "connection_refused",
    "status on": "status_listening",
    "ignored {signal}": "signal_ignored",
    "no worker could start": "workers_failed",
    "reloaded {loaded}": "reloaded",
    "cannot reload {refusal}": "reload_refused",
    "SIGQUIT: ": "stopping",
    "the parent did not read": "log_lines_lost",
    "{name} answers again": "worker_answers",
    "{name} does not answer": "worker_hangs",
    "{name} ended": "worker_ended",
    "{name} has not answered": "worker_killed",
    "{name} started": "worker_started",
    "{name} {what}": "worker_ended",
}


def event_name(event: Any) -> str:
    """Return the name of an event.

    :param event: of ``twisted.logger``.
    :returns: the name; :data:`OTHER` for an event that is not one of this package.
    """
    named = event.get("event")
    if isinstance(named, str):
        return named
    text = event.get("log_format")
    if not isinstance(text, str) or not str(event.get("log_namespace")).startswith("echoproto"):
        return OTHER
    begins = [begin for begin in _BY_BEGIN if text.startswith(begin)]
    return _BY_BEGIN[max(begins, key=len)] if begins else OTHER
