"""A network namespace for a test, in which every port is free, even port 7."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.system.server import running

needs_network = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ["unshare", "nsenter", "ip"])),
    reason="needs root, unshare, nsenter (util-linux) and ip (iproute2)",
)

_HOLD = """
ip link set lo up
mount --bind "$1" /etc/hosts
echo the network is up
exec sleep infinity
"""


class Network:
    """A network namespace, with loopback alone."""

    def __init__(self, holder: int) -> None:
        self._holder = holder

    def command(self, *command: str) -> list[str]:
        """Return the command line that runs a command in it."""
        where = [f"--target={self._holder}", "--net", "--mount", "--wd"]
        return ["nsenter", *where, "--", *command]


@contextmanager
def network(folder: Path, *names: str) -> Iterator[Network]:
    """Make a network.

    :param folder: where commands are run, and a file can be put.
    :param names: host names that mean 127.0.0.1 there.
    """
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {' '.join(names)}\n::1 localhost\n")
    command = ["unshare", "--net", "--mount", "sh", "-ec", _HOLD, "sh", str(hosts)]
    with running(command, cwd=folder) as holder:
        holder.wait_for("the network is up")
        yield Network(holder.pid)
