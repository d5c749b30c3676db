"""A worker's command: it imports the parent's code, and nothing from where it is started."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from echoproto.core.connection_log import LogDetail
from echoproto.workers.channel import FROM_WORKER
from echoproto.workers.launch import worker_command
from echoproto.workers.settings import InheritedSocket, WorkerSettings

SETTINGS = WorkerSettings(
    reactor="twisted.internet.selectreactor",
    sockets=[InheritedSocket(5, None, [4, 5])],
    protocol="echoproto.core.protocol.Echo",
    log=LogDetail.LISTENING.value,
    limits={},
    proxy_headers=None,
    drain_timeout=1.0,
    drain_delay=0.0,
    fast_lane=True,
    keepalive=60.0,
    number=1,
)


def launch(command: list[str]) -> str:
    """Run a worker without a parent until it fails; return what it tells the parent."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, FROM_WORKER)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    return told


def test_settings_survive_the_command_line() -> None:
    command = worker_command(SETTINGS)
    assert WorkerSettings.from_json(command[3]) == SETTINGS
    assert SETTINGS.version == version("echoproto")


def test_the_module_path_is_the_parents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "there", "/usr/lib"])
    assert worker_command(SETTINGS)[4:] == [str(tmp_path), str(tmp_path / "there"), "/usr/lib"]


@pytest.mark.skipif(os.name != "posix", reason="inherits descriptors")
def test_modules_in_the_current_directory_are_not_imported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("selectors", "json", "signal", "os", "encodings", "twisted", "echoproto"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('planted module was imported')")
    # Not a protocol, so that it ends.
    settings = dataclasses.replace(SETTINGS, protocol="no.such.protocol")
    told = launch(worker_command(settings))
    why = "ObjectNotFound: 'no.such.protocol' does not name an object"
    assert json.loads(told) == {"kind": "failed", "why": why}


@pytest.mark.skipif(os.name != "posix", reason="inherits descriptors")
def test_another_version_is_not_mixed_with_the_parents() -> None:
    settings = dataclasses.replace(SETTINGS, version="0.0.1")
    told = launch(worker_command(settings))
    why = f"echoproto {version('echoproto')} is installed now, and the server is 0.0.1: restart it"
    assert json.loads(told) == {"kind": "failed", "why": why}
