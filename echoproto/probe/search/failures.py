"""Failures kept on disk: plain text that can be committed, replayed first in the next run.

There is one file for each failure. It is named after its conversation and its target, so that the
same failure is saved once, and two people who find it save the same file::

    # truncated: the path closed after 0 of 1 byte, 1 missing
    # found by E-011, reproduced in 10 of 10 runs
    # target 127.0.0.1:7007
    send ff

Lines with ``#`` are for people, except ``# target``, which says where the failure belongs, and
``# passed``, which marks a failure that no longer fails there. A file without ``# target`` belongs
to every target.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from echoproto.probe.script.conversation import ConversationError, Session
from echoproto.probe.wire.target import Target

__all__ = ["DIRECTORY", "SavedFailure", "SavedFailures", "SavedFailuresError", "failure_id"]

DIRECTORY = Path(".echoproto") / "failures"

_PASSED = "# passed"
_TARGET = "# target "
_MAX_FILE = 256 * 1024 * 1024


class SavedFailuresError(Exception):
    """A saved failure cannot be read or written; the message is one line."""


@dataclass(frozen=True)
class SavedFailure:
    """One file.

    Attributes:
        id: the name of the file, less its suffix.
        session: what to run.
        comment: its first comment line: the kind and the message.
        passed: whether it was marked as passing.
        target: where it was found; None if the file does not name it.
    """

    id: str
    session: Session
    comment: str
    passed: bool
    target: Target | None = None

    def belongs_to(self, target: Target | None) -> bool:
        """Return whether the path to ``target`` is where it was found; None stands for any."""
        if self.target is None or target is None:
            return True
        return self.target.path_of_bytes == target.path_of_bytes


def failure_id(session: Session, target: Target) -> str:
    """Return the eight hexadecimal digits that identify the session and where it fails."""
    path = " ".join(target.path_of_bytes.words)
    return hashlib.sha256(f"{path}\n{session}".encode(errors="surrogateescape")).hexdigest()[:8]


class SavedFailures:
    """The failures saved in one directory.

    Args:
        directory: where they are; it need not exist.
        target: only failures of this target are loaded, marked and pruned; None for those of all.
        any_target: whether those of other targets are loaded too.
    """

    def __init__(
        self,
        directory: Path = DIRECTORY,
        target: Target | None = None,
        any_target: bool = False,
    ) -> None:
        self.directory = directory
        self._target = target
        self._any_target = any_target

    def load(self) -> tuple[list[SavedFailure], list[str]]:
        """Return the failures to replay, by id, and a line on each file that is left out."""
        saved, lines = self._load()
        if self._any_target:
            return saved, lines
        return [failure for failure in saved if failure.belongs_to(self._target)], lines

    def others(self) -> int:
        """Return how many saved failures belong to other targets."""
        return sum(not failure.belongs_to(self._target) for failure in self._load()[0])

    def _load(self) -> tuple[list[SavedFailure], list[str]]:
        saved, wrong = [], []
        try:
            paths = sorted(self.directory.glob("*.txt"))
        except OSError as error:
            return [], [_line(self.directory, error)]
        for path in paths:
            try:
                saved.append(self._read(path))
            except SavedFailuresError as error:
                wrong.append(str(error))
        return saved, wrong

    def get(self, id_: str) -> SavedFailure:
        """Return the failure with this id, or the only one whose id begins with it.

        Raises:
            SavedFailuresError: if there is none, more than one, or it cannot be read.
        """
        found = [p for p in sorted(self.directory.glob("*.txt")) if p.stem.startswith(id_)]
        if not found:
            raise SavedFailuresError(f"no saved failure {id_!r} in {self.directory}")
        if len(found) > 1:
            names = ", ".join(path.stem for path in found)
            raise SavedFailuresError(f"{id_!r} matches several saved failures: {names}")
        return self._read(found[0])

    def save(self, session: Session, comments: list[str], target: str) -> str:
        """Write a failure, unless it exists already; return its id.

        Args:
            session: the shortest conversation that fails.
            comments: lines for people.
            target: where it fails, as the command line takes it.

        Raises:
            SavedFailuresError: if the file cannot be written.
        """
        where = Target.from_words(shlex.split(target))
        for saved in self._load()[0]:
            if saved.session == session and saved.belongs_to(where):
                self._set_passed(saved, False)
                return saved.id
        id_ = failure_id(session, where)
        lines = [f"# {_one_line(comment)}" for comment in comments]
        self._write(id_, [*lines, _TARGET + target, str(session)])
        return id_

    def mark(self, saved: SavedFailure, passed: bool) -> None:
        """Mark a failure as passing, or as failing again; not one of another target.

        Raises:
            SavedFailuresError: if the file cannot be written.
        """
        if saved.belongs_to(self._target):
            self._set_passed(saved, passed)

    def _set_passed(self, saved: SavedFailure, passed: bool) -> None:
        if saved.passed == passed:
            return
        lines = self._path(saved.id).read_text(encoding="utf-8").splitlines()
        lines = [line for line in lines if line.strip() != _PASSED]
        self._write(saved.id, [_PASSED, *lines] if passed else lines)

    def prune(self) -> list[str]:
        """Delete the failures of this target that are marked as passing; return their ids.

        Raises:
            SavedFailuresError: if a file cannot be deleted.
        """
        passing = [s.id for s in self._load()[0] if s.passed and s.belongs_to(self._target)]
        for id_ in passing:
            path = self._path(id_)
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise SavedFailuresError(_line(path, error)) from None
        return passing

    def _path(self, id_: str) -> Path:
        return self.directory / f"{id_}.txt"

    def _read(self, path: Path) -> SavedFailure:
        try:
            if path.stat().st_size > _MAX_FILE:
                raise SavedFailuresError(f"{path}: larger than {_MAX_FILE} bytes")
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SavedFailuresError(_line(path, error)) from None
        except UnicodeDecodeError:
            raise SavedFailuresError(f"{path}: not a text file") from None
        comments = [line.strip() for line in lines if line.lstrip().startswith("#")]
        content = [
            line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")
        ]
        if len(content) != 1:
            raise SavedFailuresError(f"{path}: {len(content)} conversations; there must be one")
        try:
            session = Session.parse(content[0])
        except ConversationError as error:
            raise SavedFailuresError(f"{path}: {error}") from None
        targets = [c.removeprefix(_TARGET) for c in comments if c.startswith(_TARGET)]
        try:
            target = Target.from_words(shlex.split(targets[0])) if targets else None
        except ValueError as error:  # TargetError is one
            raise SavedFailuresError(f"{path}: {error}") from None
        return SavedFailure(
            id=path.stem,
            session=session,
            comment=next((c.lstrip("# ") for c in comments if c != _PASSED), ""),
            passed=_PASSED in comments,
            target=target,
        )

    def _write(self, id_: str, lines: list[str]) -> None:
        path = self._path(id_)
        # Written to another file, then renamed: an interrupted write leaves no partial failure.
        temporary = path.with_suffix(".new")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            raise SavedFailuresError(_line(path, error)) from None


def _line(path: Path, error: OSError) -> str:
    return f"{path}: {os.strerror(error.errno) if error.errno else error}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)
