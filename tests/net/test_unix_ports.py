"""UNIX ports and their files, on real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import ServerFactory

from echoproto.base.lifecycle import close_now
from echoproto.net.ports import share_socket
from echoproto.net.unix_ports import UNIXPort, unix_name
from tests.descriptors import open_descriptors
from tests.logs import logged
from tests.reactors import run

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="needs UNIX sockets")
linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
)
# A server is kept apart from others with and without a lock.
with_and_without_lock = pytest.mark.parametrize("lock", [True, False], ids=["lock", "no lock"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def unix_port(reactor: Any, path: Path | str, lock: bool = True, mode: int = 0o666) -> UNIXPort:
    port = UNIXPort(str(path), ServerFactory(), 5, mode, reactor, lock)
    port.startListening()
    return port


def connects(path: Path | str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        return True


def leave_socket(path: Path) -> None:
    """Leave what a server leaves that is killed."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        left.listen()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[None]:
    """Another program's server, which knows nothing of locks."""
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        yield


def refused(reactor: Any, path: Path | str, code: int, lock: bool = True) -> None:
    before = open_descriptors() if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(CannotListenError) as caught:
        unix_port(reactor, path, lock)
    assert caught.value.socketError.errno == code
    assert not before or open_descriptors() == before


@with_and_without_lock
def test_nothing_is_left_of_a_port_that_closes(path: Path, lock: bool) -> None:
    async def main(reactor: Any) -> None:
        port = unix_port(reactor, path, lock, 0o640)
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        assert connects(path)
        await port.stopListening()

    with logged() as log:
        run(main)
    assert not list(path.parent.iterdir())
    assert log.lines == []


@with_and_without_lock
def test_what_a_killed_server_left_is_no_hindrance(path: Path, lock: bool) -> None:
    """Whatever process id it had: in a container, that of this process."""
    leave_socket(path)
    if lock:
        (path.parent / "socket.lock").touch(0o600)

    async def main(reactor: Any) -> None:
        port = unix_port(reactor, path, lock)
        assert connects(path)
        await port.stopListening()

    run(main)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("owner", ["this process", "another one", "one that is gone", "junk"])
def test_what_a_killed_server_of_twisteds_left_is_no_hindrance(path: Path, owner: str) -> None:
    pids = {"this process": os.getpid(), "another one": os.getppid(), "one that is gone": 999999999}
    leave_socket(path)
    os.symlink(str(pids.get(owner, owner)), f"{path}.lock")

    async def main(reactor: Any) -> None:
        await unix_port(reactor, path).stopListening()

    run(main)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_a_server_that_runs_is_not_displaced(path: Path, first: bool, second: bool) -> None:
    async def main(reactor: Any) -> None:
        port = unix_port(reactor, path, first)
        refused(reactor, path, errno.EWOULDBLOCK, second)
        assert connects(path)
        await port.stopListening()

    run(main)
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("twisteds_lock", [True, False])
@with_and_without_lock
def test_another_programs_server_is_not_displaced(
    path: Path, lock: bool, twisteds_lock: bool
) -> None:
    if twisteds_lock:
        os.symlink(str(os.getpid()), f"{path}.lock")

    async def main(reactor: Any) -> None:
        with listening(path):
            refused(reactor, path, errno.EWOULDBLOCK, lock)
            assert connects(path)

    run(main)
    assert os.path.lexists(f"{path}.lock") == twisteds_lock


@with_and_without_lock
def test_a_server_whose_queue_is_full_is_not_displaced(path: Path, lock: bool) -> None:
    async def main(reactor: Any) -> None:
        with socket.socket(socket.AF_UNIX) as other, contextlib.ExitStack() as clients:
            other.bind(str(path))
            other.listen(0)
            clients.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
            refused(reactor, path, errno.EWOULDBLOCK, lock)

    run(main)


@with_and_without_lock
def test_a_file_that_is_no_socket_stays(path: Path, lock: bool) -> None:
    path.write_text("precious")

    async def main(reactor: Any) -> None:
        refused(reactor, path, errno.EADDRINUSE, lock)

    run(main)
    assert path.read_text() == "precious"
    assert [each.name for each in path.parent.iterdir()] == ["socket"]


@with_and_without_lock
def test_the_socket_of_a_successor_stays(path: Path, lock: bool) -> None:
    """The inode of the removed file is free as soon as its socket is closed."""

    async def main(reactor: Any) -> None:
        port = unix_port(reactor, path, lock)
        path.unlink()
        (path.parent / "socket.lock").unlink(missing_ok=True)
        successor = unix_port(reactor, path, lock)
        await port.stopListening()
        assert connects(path)
        # Nor does it matter to the lock.
        refused(reactor, path, errno.EWOULDBLOCK, lock)
        await successor.stopListening()

    with logged() as log:
        run(main)
    assert not list(path.parent.iterdir())
    assert log.lines == [f"cannot remove {path}: it is another's now"]


def test_a_port_whose_file_is_gone_closes(path: Path) -> None:
    async def main(reactor: Any) -> UNIXPort:
        port = unix_port(reactor, path)
        path.unlink()
        await port.stopListening()
        return port

    with logged() as log:
        port = run(main)
    assert not port.connected
    assert not list(path.parent.iterdir())
    assert log.lines == [f"cannot remove {path}: No such file or directory"]


def test_a_port_closes_in_this_turn(path: Path) -> None:
    async def main(reactor: Any) -> None:
        close_now(unix_port(reactor, path))
        assert not list(path.parent.iterdir())

    run(main)


def test_a_shared_socket_loses_its_file_when_its_port_closes(path: Path) -> None:
    """The workers still serve it, but no new client can connect."""

    async def main(reactor: Any) -> None:
        port = unix_port(reactor, path)
        share_socket(port)
        with socket.socket(fileno=os.dup(port.fileno())), socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            await port.stopListening()
            assert not list(path.parent.iterdir())

    run(main)


# Takes the lock, says so, and lets go of it in the way that is asked for.
RIVAL = """
import sys
from twisted.internet.selectreactor import SelectReactor
from twisted.internet.protocol import ServerFactory
from twisted.internet.error import CannotListenError
from echoproto.net.unix_ports import UNIXPort
port = UNIXPort(sys.argv[1], ServerFactory(), 5, 0o666, SelectReactor(), True)
sys.stdin.readline()
try:
    port.startListening()
except CannotListenError:
    print("refused", flush=True)
else:
    print("listens", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_one_of_several_that_start_at_once_listens(path: Path) -> None:
    for _ in range(5):
        leave_socket(path)
        rivals = [
            subprocess.Popen(
                [sys.executable, "-c", RIVAL, str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(4)
        ]
        for rival in rivals:
            assert rival.stdin is not None
            rival.stdin.write("start\n")
            rival.stdin.flush()
        outcomes = [rival.stdout.readline() for rival in rivals if rival.stdout]
        assert sorted(outcomes) == ["listens\n", *["refused\n"] * 3]
        assert connects(path)
        # As kill -9 does: the lock is free, its file and the socket's stay.
        for rival in rivals:
            rival.kill()
            rival.communicate()
        assert not connects(path)
        path.unlink()


def test_a_directory_that_is_not_there(path: Path) -> None:
    async def main(reactor: Any) -> None:
        for lock in (True, False):
            refused(reactor, path / "no" / "such", errno.ENOENT, lock)

    run(main)


@needs_root
def test_the_files_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That user may remove them at the end, where the directory allows it."""
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    # Other users may not enter the directories above.
    monkeypatch.chdir(directory)

    async def main(reactor: Any) -> None:
        port = unix_port(reactor, "socket")
        port.give_to(65534, 65533)
        for name in ("socket", "socket.lock"):
            found = os.stat(name)
            assert (found.st_uid, found.st_gid) == (65534, 65533)
        os.seteuid(65534)
        try:
            await port.stopListening()
        finally:
            os.seteuid(0)

    run(main)
    assert not list(directory.iterdir())


@needs_root
def test_a_lock_that_this_user_may_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root's server was killed, and the directory is this user's."""
    directory = tmp_path / "own"
    directory.mkdir()
    monkeypatch.chdir(directory)
    leave_socket(Path("socket"))
    os.chmod("socket", 0o666)
    Path("socket.lock").touch(0o600)
    os.chown(directory, 65534, 65534)

    async def main(reactor: Any) -> None:
        os.seteuid(65534)
        try:
            await unix_port(reactor, "socket").stopListening()
        finally:
            os.seteuid(0)

    run(main)
    assert not list(directory.iterdir())


@linux_only
class TestAbstract:
    """Names in Linux's abstract namespace, which have no file."""

    @with_and_without_lock
    def test_it_has_no_file(
        self, tmp_path: Path, lock: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        name = unix_name(f"@echoproto-test-{os.getpid()}")

        async def main(reactor: Any) -> None:
            port = unix_port(reactor, name, lock)
            assert connects(name)
            refused(reactor, name, errno.EWOULDBLOCK, lock)
            await port.stopListening()
            assert not connects(name)

        with logged() as log:
            run(main)
        assert log.lines == []
        assert not list(tmp_path.iterdir())

    def test_names(self) -> None:
        assert unix_name("@a") == "\0a"
        assert unix_name("./@a") == "./@a"
        for empty in ("", "@"):
            with pytest.raises(ValueError, match="no path"):
                unix_name(empty)
