"""The log file that can be opened again."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from echoproto.command.log_file import LogFile, log_path
from tests.descriptors import open_descriptors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "echo.log"


def test_it_appends(path: Path) -> None:
    path.write_text("old\n")
    file = LogFile(str(path))
    file.write("näw \ud800\n")
    file.flush()
    file.close()
    assert path.read_text() == "old\nnäw \\ud800\n"


def test_it_goes_on_in_a_new_file_that_has_the_mode_of_the_old(path: Path) -> None:
    file = LogFile(str(path))
    path.chmod(0o640)
    path.rename(path.with_suffix(".1"))
    umask = os.umask(0o077)
    try:
        file.reopen()
    finally:
        os.umask(umask)
    file.write("new\n")
    file.close()
    assert (path.with_suffix(".1").read_text(), path.read_text()) == ("", "new\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_it_takes_the_file_that_is_there_as_it_is(path: Path) -> None:
    """Log rotation may have created it, for the user who serves."""
    file = LogFile(str(path))
    path.rename(path.with_suffix(".1"))
    path.touch(0o604)
    path.chmod(0o604)
    file.reopen()
    file.write("new\n")
    file.close()
    assert path.read_text() == "new\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_it_keeps_the_old_one_where_there_is_no_other(path: Path) -> None:
    file = LogFile(str(path))
    path.rename(path.with_suffix(".1"))
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        file.reopen()
    file.write("still here\n")
    file.close()
    assert path.with_suffix(".1").read_text() == "still here\n"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
def test_nothing_is_lost_and_no_descriptor_leaks(path: Path) -> None:
    """Not even of what another thread writes meanwhile."""
    file = LogFile(str(path))
    before = open_descriptors()
    lines = [f"{n}\n" for n in range(20_000)]

    def write() -> None:
        for line in lines:
            file.write(line)

    writer = threading.Thread(target=write)
    writer.start()
    number = 0
    while writer.is_alive():
        path.rename(path.with_suffix(f".{number}"))
        file.reopen()
        number += 1
    writer.join()
    assert open_descriptors() == before
    file.close()
    old = [path.with_suffix(f".{n}").read_text() for n in range(number)]
    assert "".join([*old, path.read_text()]) == "".join(lines)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ({}, None),
        ({"logfile": None}, "twistd.log"),
        ({"logfile": "x.log"}, "x.log"),
        ({"logfile": "x.log", "nodaemon": True}, "x.log"),
        ({"logfile": None, "nodaemon": True}, None),
        ({"logfile": "-", "nodaemon": True}, None),
        ({"logfile": "x.log", "syslog": True}, None),
        ({"logfile": "x.log", "logger": object()}, None),
    ],
)
def test_where_twistd_logs(program: dict[str, Any], expected: str | None) -> None:
    assert log_path(program) == expected
