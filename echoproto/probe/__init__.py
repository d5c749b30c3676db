"""Find out what a network path does to bytes.

The path ends in an echo (RFC 862): what comes back must be what was sent. The probe runs
conversations over it, generated ones and a catalogue of those known to break real paths. It
judges what comes back, and shrinks a failure to the shortest conversation that shows it.

It needs the extra ``probe``: ``pip install 'echoproto[probe]'``.

These names are public. Each is imported when it is first used, because pytest loads the plugin
in every run, and because only the strategies and the campaign need Hypothesis.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echoproto.probe.pytest_plugin.machine import EchoMachine as EchoMachine
    from echoproto.probe.pytest_plugin.target import EchoTarget as EchoTarget
    from echoproto.probe.relay.broken_path import BrokenPath as BrokenPath
    from echoproto.probe.relay.broken_path import BrokenPaths as BrokenPaths
    from echoproto.probe.script.catalogue import Case as Case
    from echoproto.probe.script.catalogue import catalogue as catalogue
    from echoproto.probe.script.conversation import Absent as Absent
    from echoproto.probe.script.conversation import Await as Await
    from echoproto.probe.script.conversation import Conversation as Conversation
    from echoproto.probe.script.conversation import ConversationError as ConversationError
    from echoproto.probe.script.conversation import HalfClose as HalfClose
    from echoproto.probe.script.conversation import Hold as Hold
    from echoproto.probe.script.conversation import Pause as Pause
    from echoproto.probe.script.conversation import Reset as Reset
    from echoproto.probe.script.conversation import Send as Send
    from echoproto.probe.script.conversation import Session as Session
    from echoproto.probe.script.conversation import SlowRead as SlowRead
    from echoproto.probe.script.conversation import Step as Step
    from echoproto.probe.script.conversation import Urgent as Urgent
    from echoproto.probe.script.strategies import conversations as conversations
    from echoproto.probe.script.strategies import payloads as payloads
    from echoproto.probe.script.strategies import sessions as sessions
    from echoproto.probe.search.campaign import Campaign as Campaign
    from echoproto.probe.search.explain.explanation import Explanation as Explanation
    from echoproto.probe.search.failures import SavedFailures as SavedFailures
    from echoproto.probe.search.failures import SavedFailuresError as SavedFailuresError
    from echoproto.probe.search.observer import Observer as Observer
    from echoproto.probe.search.preflight import NotAnEchoError as NotAnEchoError
    from echoproto.probe.search.preflight import Preflight as Preflight
    from echoproto.probe.search.preflight import StoppedError as StoppedError
    from echoproto.probe.search.preflight import preflight as preflight
    from echoproto.probe.search.result import CampaignResult as CampaignResult
    from echoproto.probe.search.result import CaseRecord as CaseRecord
    from echoproto.probe.search.result import Failure as Failure
    from echoproto.probe.search.result import Phase as Phase
    from echoproto.probe.search.settings import Settings as Settings
    from echoproto.probe.wire.connector import Connector as Connector
    from echoproto.probe.wire.connector import LocalError as LocalError
    from echoproto.probe.wire.first_connection import connect as connect
    from echoproto.probe.wire.limits import Limits as Limits
    from echoproto.probe.wire.run import run as run
    from echoproto.probe.wire.target import Target as Target
    from echoproto.probe.wire.target import TargetError as TargetError
    from echoproto.probe.wire.verdict import Action as Action
    from echoproto.probe.wire.verdict import Event as Event
    from echoproto.probe.wire.verdict import Fault as Fault
    from echoproto.probe.wire.verdict import Outcome as Outcome
    from echoproto.probe.wire.verdict import Verdict as Verdict

_HOMES = {
    "Absent": "script.conversation",
    "Action": "wire.verdict",
    "Await": "script.conversation",
    "BrokenPath": "relay.broken_path",
    "BrokenPaths": "relay.broken_path",
    "Campaign": "search.campaign",
    "CampaignResult": "search.result",
    "Case": "script.catalogue",
    "CaseRecord": "search.result",
    "Connector": "wire.connector",
    "Conversation": "script.conversation",
    "ConversationError": "script.conversation",
    "EchoMachine": "pytest_plugin.machine",
    "EchoTarget": "pytest_plugin.target",
    "Event": "wire.verdict",
    "Explanation": "search.explain.explanation",
    "Failure": "search.result",
    "Fault": "wire.verdict",
    "HalfClose": "script.conversation",
    "Hold": "script.conversation",
    "Limits": "wire.limits",
    "LocalError": "wire.connector",
    "NotAnEchoError": "search.preflight",
    "Observer": "search.observer",
    "Outcome": "wire.verdict",
    "Pause": "script.conversation",
    "Phase": "search.result",
    "Preflight": "search.preflight",
    "Reset": "script.conversation",
    "SavedFailures": "search.failures",
    "SavedFailuresError": "search.failures",
    "Send": "script.conversation",
    "Session": "script.conversation",
    "Settings": "search.settings",
    "SlowRead": "script.conversation",
    "Step": "script.conversation",
    "StoppedError": "search.preflight",
    "Target": "wire.target",
    "TargetError": "wire.target",
    "Urgent": "script.conversation",
    "Verdict": "wire.verdict",
    "catalogue": "script.catalogue",
    "connect": "wire.first_connection",
    "conversations": "script.strategies",
    "payloads": "script.strategies",
    "preflight": "search.preflight",
    "run": "wire.run",
    "sessions": "script.strategies",
}

__all__ = list(_HOMES)

# A type checker reads the imports above. If it saw this function, it would accept any
# name, misspelt ones included.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name from where it lives (PEP 562)."""
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
