"""twistd's pid file: what twistd refuses without saying what to do, or with a traceback."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

ALLOWED = "another path, or --pidfile= for none"


def obstacle(program: Mapping[str, Any]) -> str | None:
    """Return why twistd would refuse to start because of an earlier pid file.

    One that names this process was left by a process with the same number, as is the rule
    in a container. It is removed.

    :param program: the options of the program that runs this; only twistd's has a pid file.
    """
    path = program.get("pidfile")
    try:
        with open(path or "") as file:
            pid = int(file.read(100))
            if not 0 < pid < 1 << 31:
                raise ValueError
    except ValueError:
        return "contains no process id; remove it if no server runs"
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if pid == os.getpid():
        with suppress(OSError):
            os.unlink(path or "")
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        # twistd removes it.
        return None
    except OSError:
        # It is another user's.
        pass
    return f"names process {pid}, which runs; remove it if that is another program"


def why_not_writable(program: Mapping[str, Any]) -> str | None:
    """Write twistd's pid file and remove it; return why that cannot be done.

    twistd writes it after it has made the service, as a daemon's first act,
    and has a traceback for a failure.

    :param program: the options of the program that runs this; only twistd's has a pid file.
    """
    path = program.get("pidfile")
    # In another root, the path is that of another file.
    if not path or program.get("chroot") or os.path.lexists(path):
        return None
    try:
        with open(path, "x") as file:
            file.write(str(os.getpid()))
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    finally:
        with suppress(OSError):
            os.unlink(path)
    return None
