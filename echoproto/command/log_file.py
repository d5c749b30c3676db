"""The log file, which log rotation may move away at any time."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Mapping
from typing import Any


class LogFile:
    """A log file that can be opened again under its name.

    Unlike ``twisted.python.logfile.LogFile`` it never moves itself, which would interfere
    with logrotate, and it keeps the file that it has if there is no other to be had.

    :ivar path: its name, absolute.
    """

    def __init__(self, path: str) -> None:
        """Open it for appending, and create it if there is none.

        :param path: of the file.
        :raises OSError: if it cannot be written.
        """
        self.path = os.path.abspath(path)
        self._descriptor = _open(self.path, os.O_CREAT)

    def write(self, text: str) -> None:
        """Append to it.

        :raises OSError: if that fails.
        """
        data = memoryview(text.encode(errors="backslashreplace"))
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Do nothing: nothing is buffered."""

    def close(self) -> None:
        """Close it; nothing can be written any more."""
        os.close(self._descriptor)

    def give_to(self, user: int, group: int) -> None:
        """Give it to the user that serves from now on and reopens it.

        :param user: the user id, or -1 for no change.
        :param group: the group id, or -1 for no change.
        :raises OSError: if that is not permitted.
        """
        # Not a terminal or a device, which is not this program's.
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.fchown(self._descriptor, user, group)

    def reopen(self) -> None:
        """Go on in the file that has the name now; if there is none, create one like the old.

        :raises OSError: if that fails; then the old one stays open.
        """
        try:
            new = _open(self.path)
        except FileNotFoundError:
            new = _open(self.path, os.O_CREAT)
            with contextlib.suppress(OSError):
                # A daemon's umask is stricter than that of the shell that has started it.
                os.fchmod(new, os.fstat(self._descriptor).st_mode & 0o777)
        # In one step: another thread may write.
        os.dup2(new, self._descriptor, inheritable=False)
        os.close(new)


def _open(path: str, flags: int = 0) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | flags, 0o666)


def log_path(program: Mapping[str, Any]) -> str | None:
    """Return the path of the file that twistd logs to.

    :param program: the options of the program that runs this.
    :returns: ``None`` if the log goes elsewhere, or if it is not twistd.
    """
    if "logfile" not in program or program.get("syslog") or program.get("logger"):
        return None
    path: str | None = program["logfile"]
    if path == "-" or (program.get("nodaemon") and not path):
        return None
    return path or "twistd.log"
