"""Targets that need no connecting: a program for each connection, or an inherited socket."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import tty
import weakref
from collections.abc import Callable

from echoproto.probe.wire.place import TargetError, command_of

__all__ = ["Inherited", "Programs"]

# A program that has lost its connection gets so many seconds to end, then so many after SIGTERM.
_UNTIL_SIGTERM = 0.5
_UNTIL_SIGKILL = 1.0

_ERRORS_KEPT = 65536

_OUT_OF_RESOURCES = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

# A session leader without a terminal gets the first one that it opens as its controlling one, which
# programs such as ssh ask for.
_ON_PTY = 'exec 0<>"$0" 1>&0; exec "$@"'


class Programs:
    """Starts a program for each connection, and ends it with the connection.

    What the programs write to standard error is kept in a file, for :meth:`last_words`.

    Args:
        text: the target less ``exec:``.

    Raises:
        TargetError: if there is no such program.
    """

    def __init__(self, text: str) -> None:
        self._words, self._pty = command_of(text)
        if shutil.which(self._words[0]) is None:
            raise TargetError(f"target {f'exec:{text}'!r}: there is no program {self._words[0]!r}")
        self._errors: int | None = None  # a file without a name
        self._ending: list[threading.Thread] = []
        self._status = ""

    def __call__(self) -> socket.socket:
        """Start one, and return the connection to it.

        Raises:
            OSError: if this machine is out of processes, descriptors or memory.
            TargetError: if it cannot be started for another reason.
        """
        if self._errors is None:
            with tempfile.TemporaryFile() as file:
                self._errors = os.dup(file.fileno())
            weakref.finalize(self, os.close, self._errors)
        elif os.fstat(self._errors).st_size > _ERRORS_KEPT:
            # The programs that run share the offset.
            os.lseek(self._errors, 0, os.SEEK_SET)
            os.truncate(self._errors, 0)
        return self._on_pty() if self._pty else self._on_sockets()

    def last_words(self) -> str:
        """Return how the program that ended last has ended; empty if none has.

        Waits for those that are still ending.
        """
        for thread in self._ending:
            thread.join()
        if self._errors is None or not self._status:
            return ""
        size = os.fstat(self._errors).st_size
        written = os.pread(self._errors, _ERRORS_KEPT, max(0, size - _ERRORS_KEPT))
        lines = written.decode("utf-8", "replace").splitlines()
        line = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"{self._words[0]} {self._status}" + (f": {line}" if line else "")

    def _on_sockets(self) -> socket.socket:
        here, there = socket.socketpair()
        with there:
            try:
                process = self._popen(self._words, there.fileno())
            except BaseException:
                here.close()
                raise
        return _ProgramSocket(here, self._end(process))

    def _on_pty(self) -> socket.socket:
        master, slave = os.openpty()
        try:
            tty.setraw(slave)
            words = ["/bin/sh", "-c", _ON_PTY, os.ttyname(slave), *self._words]
            process = self._popen(words, slave)
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        return _PtySocket(master, self._end(process))

    def _popen(self, words: list[str], fd: int) -> subprocess.Popen[bytes]:
        # A session of its own: it cannot ask for a password on our terminal, Ctrl-C ends it with
        # its connection, and its children can be ended with it.
        try:
            return subprocess.Popen(
                words, stdin=fd, stdout=fd, stderr=self._errors, start_new_session=True
            )
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                raise
            raise TargetError(f"cannot start {words[0]!r}: {error.strerror}") from None

    def _end(self, process: subprocess.Popen[bytes]) -> Callable[[], None]:
        """Return what ends the process, without waiting for it."""

        def reap() -> None:
            if status := _reap(process):
                self._status = status

        def end() -> None:
            # Not a daemon: this process does not end before those that it has started.
            thread = threading.Thread(target=reap)
            thread.start()
            self._ending = [each for each in self._ending if each.is_alive()]
            self._ending.append(thread)

        return end


def _reap(process: subprocess.Popen[bytes]) -> str:
    """Wait for the end of a process; return how it ended, or nothing if it had to be forced."""
    try:
        code = process.wait(_UNTIL_SIGTERM)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGTERM)
    else:
        return f"exited with code {code}" if code >= 0 else f"was killed by signal {-code}"
    try:
        process.wait(_UNTIL_SIGKILL)
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGKILL)
        process.wait()
    return ""


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _ProgramSocket(socket.socket):
    """One end of a socket pair. Closing it ends the program at the other end."""

    def __init__(self, sock: socket.socket, end: Callable[[], None]) -> None:
        super().__init__(fileno=sock.detach())
        self._end = end

    def close(self) -> None:
        is_open = self.fileno() >= 0
        super().close()
        if is_open:
            self._end()


class _PtySocket(_ProgramSocket):
    """The same of a pty: its master, with the interface of a socket.

    Python makes socket objects of sockets only. So one is made, and the master gets its descriptor;
    the calls that need a socket are replaced.
    """

    def __init__(self, master: int, end: Callable[[], None]) -> None:
        socket.socket.__init__(self, socket.AF_UNIX, socket.SOCK_STREAM)
        os.dup2(master, self.fileno(), inheritable=False)
        os.close(master)
        self._end = end

    def send(self, data: bytes | memoryview, flags: int = 0, /) -> int:  # type: ignore[override]  # any buffer
        return os.write(self.fileno(), data)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        try:
            return os.read(self.fileno(), bufsize)
        except OSError as error:
            if error.errno != errno.EIO:  # the other side is not open
                raise
            return b""

    def setblocking(self, flag: bool, /) -> None:
        os.set_blocking(self.fileno(), flag)

    def setsockopt(self, *_: object) -> None:
        """A pty has no socket options."""

    def shutdown(self, how: int, /) -> None:
        """A pty is closed in both directions, or in none."""


class Inherited:
    """A connected socket that this process was started with: one connection.

    Args:
        number: of the descriptor.

    Raises:
        TargetError: if it is not a connected stream socket.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._sock: socket.socket | None = None
        try:
            sock = socket.socket(fileno=number)
        except OSError as error:
            raise TargetError(self._wrong(error)) from None
        try:
            if sock.type != socket.SOCK_STREAM:
                raise OSError(errno.EPROTOTYPE, os.strerror(errno.EPROTOTYPE))
            sock.getpeername()
        except OSError as error:
            sock.detach()
            raise TargetError(self._wrong(error)) from None
        self._sock = sock

    def _wrong(self, error: OSError) -> str:
        return f"target 'fd:{self._number}': {error.strerror}; must be a connected stream socket"

    def __call__(self) -> socket.socket:
        """Return the connection.

        Raises:
            TargetError: for the second time.
        """
        if self._sock is None:
            raise TargetError(f"fd:{self._number} is one connection, which is used up")
        sock, self._sock = self._sock, None
        return sock
