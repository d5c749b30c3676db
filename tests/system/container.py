"""Builds and runs a Containerfile without an engine and without a registry.

The base image is the Python that runs the tests. ``RUN`` sees the whole file
system of this machine, with what the image adds. What is run in the end sees
Python, the C library and what the image has copied: no shell, no tools.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.server import Server, eventually, running

BASE = Path(sys.base_prefix)
CHROOT = shutil.which("chroot") or "chroot"
KNOWN = {
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "STOPSIGNAL",
    "USER",
}


@dataclass
class Image:
    """One stage: its files, and how it is run."""

    root: Path
    entrypoint: list[str] = field(default_factory=list)
    cmd: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)
    user: str = ""
    ports: list[int] = field(default_factory=list)
    stopsignal: str = ""


def instructions(text: str) -> list[tuple[str, str]]:
    """Split a Containerfile into its instructions, each with what it is given."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", "")
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, value = line.strip().partition(" ")
        assert name in KNOWN, line
        found.append((name, value.strip()))
    return found


def exec_form(value: str) -> list[str]:
    """Return the words of a command that needs no shell."""
    words = json.loads(value)
    assert words, value
    assert all(isinstance(word, str) for word in words)
    return list(words)


def build(containerfile: Path, context: Path, folder: Path) -> Image:
    """Build a Containerfile, and return its last stage.

    :param folder: where the stages are made.
    """
    stages: dict[str, Image] = {}
    image = None
    for name, value in instructions(containerfile.read_text()):
        if name == "ARG":
            continue
        if name == "FROM":
            assert re.fullmatch(r"\$\{BASE\}( AS \w+)?", value), value
            image = Image(folder / f"stage{len(stages)}")
            image.root.mkdir()
            stages[value.partition(" AS ")[2] or "last"] = image
            continue
        assert image is not None
        if name == "COPY":
            copy(value, context, stages, image.root)
        elif name == "RUN":
            run(exec_form(value), image.root)
        elif name == "HEALTHCHECK":
            image.healthcheck = exec_form(value.partition("CMD ")[2])
        elif name == "EXPOSE":
            image.ports = [int(port) for port in value.split()]
        elif name in ("ENTRYPOINT", "CMD"):
            setattr(image, name.lower(), exec_form(value))
        else:
            setattr(image, name.lower(), value)
    assert image is not None
    return image


def copy(value: str, context: Path, stages: dict[str, Image], root: Path) -> None:
    """Execute COPY: files into a folder, or a folder as another one."""
    *sources, target = value.split()
    if sources[0].startswith("--from="):
        context = stages[sources.pop(0).removeprefix("--from=")].root
    for source in sources:
        origin = context / source.lstrip("/")
        goal = root / target.lstrip("/")
        if origin.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(origin, goal, symlinks=True, ignore=ignore)
        else:
            goal.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, goal)


def run(command: Sequence[str], root: Path) -> None:
    """Run a command of the build, as root, with all that this machine has."""
    binds = []
    for entry in sorted(Path("/").iterdir()):
        if entry.is_symlink():
            if not (root / entry.name).is_symlink():
                (root / entry.name).symlink_to(entry.readlink())
        elif entry.name == "opt":
            binds += [(each, root / "opt" / each.name) for each in entry.iterdir()]
        elif entry.is_dir() and entry.name not in ("src", "tmp"):
            binds.append((entry, root / entry.name))
    (root / "tmp").mkdir(exist_ok=True)
    mounts = [mount(source, goal) for source, goal in binds if source.name != "echoproto"]
    environment = {**os.environ, "PATH": f"{BASE}/bin:{os.defpath}"}
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script(mounts), "sh", CHROOT, str(root), *command],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def mount(source: Path, goal: Path) -> str:
    if source.is_dir():
        goal.mkdir(parents=True, exist_ok=True)
    else:
        goal.touch()
    return f"mount --rbind '{source}' '{goal}'"


def script(mounts: Sequence[str]) -> str:
    return "\n".join([*mounts, 'exec "$@"'])


def add_python(root: Path) -> list[str]:
    """Put Python and the libraries that it needs into a root, by copy or by mount."""
    binaries = root / str(BASE / "bin")[1:]
    binaries.mkdir(parents=True, exist_ok=True)
    for python in (BASE / "bin").glob("python3*"):
        if not python.name.endswith("config") and not os.path.lexists(binaries / python.name):
            shutil.copy(python, binaries, follow_symlinks=False)
    mounts = []
    system = [Path(each) for each in ("/usr/lib", "/usr/lib64", "/lib", "/lib64")]
    for library in dict.fromkeys([*system, BASE / "lib"]):
        goal = root / str(library)[1:]
        if library.is_symlink():
            if not goal.is_symlink():
                goal.symlink_to(library.readlink())
        elif library.is_dir():
            mounts.append(mount(library, goal))
    return mounts


class Container:
    """A running image, in namespaces of its own, with a root that cannot be written."""

    def __init__(self, image: Image, server: Server) -> None:
        self._image = image
        self.server = server

        def started() -> bool:
            return bool(self._children())

        assert eventually(started), server.log
        self.pid = int(self._children()[0])
        subprocess.run(
            ["nsenter", f"--target={self.pid}", "--net", "ip", "link", "set", "lo", "up"],
            check=True,
        )

    def _children(self) -> list[str]:
        outer = self.server.pid
        children = Path(f"/proc/{outer}/task/{outer}/children")
        return children.read_text().split() if children.exists() else []

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside it, as its user."""
        user, _, group = self._image.user.partition(":")
        where = [f"--target={self.pid}", "--mount", "--net", "--pid", "--root", "--wd"]
        who = [f"--setuid={user}", f"--setgid={group}"]
        return subprocess.run(
            ["nsenter", *where, *who, *command], capture_output=True, text=True, env={}
        )

    def kill(self) -> None:
        if self._children():
            os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> int:
        """Send the image's stop signal; return how process 1 ended."""
        os.kill(self.pid, getattr(signal, self._image.stopsignal))
        return self.server.wait()


@contextmanager
def container(image: Image, *args: str) -> Iterator[Container]:
    """Run an image; arguments replace its own."""
    for folder in ("dev", "proc"):
        (image.root / folder).mkdir(exist_ok=True)
    root = str(image.root)
    mounts = [
        f"mount --bind '{root}' '{root}'",
        *add_python(image.root),
        # What every engine gives a container.
        *(mount(Path(each), image.root / each[1:]) for each in ("/dev/null", "/dev/urandom")),
        f"mount -t proc proc '{root}/proc'",
        f"mount -o remount,bind,ro '{root}'",
    ]
    command = [*image.entrypoint, *(args or image.cmd)]
    chroot = ["env", "-i", CHROOT, f"--userspec={image.user}", "--groups="]
    namespaces = ["unshare", "--mount", "--pid", "--net", "--fork"]
    shell = ["sh", "-ec", script(mounts), "sh"]
    with running([*namespaces, *shell, *chroot, root, *command]) as server:
        echo = Container(image, server)
        try:
            yield echo
        finally:
            # unshare leaves it alone when it ends.
            echo.kill()
