from __future__ import annotations

import os
import re
import shlex
from pathlib import Path as File

import pytest

from echoproto.probe.script.conversation import Session
from echoproto.probe.search.failures import SavedFailures, SavedFailuresError, failure_id
from echoproto.probe.wire.target import Target

SESSION = Session.parse("send 0d ff; fin")


@pytest.fixture
def saved(tmp_path: File) -> SavedFailures:
    return SavedFailures(tmp_path / ".echoproto" / "failures")


def test_a_failure_is_saved_as_plain_text(saved: SavedFailures) -> None:
    id_ = saved.save(
        SESSION, ["truncated: gone\nby", "found by E-011"], "tls:127.0.0.1:7 --insecure"
    )
    assert re.fullmatch("[0-9a-f]{8}", id_)
    assert id_ == failure_id(SESSION, Target.parse("tls:127.0.0.1:7"))
    text = (saved.directory / f"{id_}.txt").read_text()
    assert text == (
        "# truncated: gone by\n# found by E-011\n# target tls:127.0.0.1:7 --insecure\n"
        "send 0d ff; fin\n"
    )
    assert [path.name for path in saved.directory.iterdir()] == [f"{id_}.txt"]
    loaded = saved.get(id_[:4])
    assert loaded.session == SESSION
    assert loaded.comment == "truncated: gone by"
    assert loaded.target == Target.parse("tls:127.0.0.1:7", insecure=True)
    assert not loaded.passed


def test_its_target_is_saved_with_proxies_and_without_passwords(saved: SavedFailures) -> None:
    here = Target.parse("a:7", via=["socks5://bob:sesame@b:1", "http://c:2"])
    id_ = saved.save(SESSION, [], shlex.join(here.words))
    text = (saved.directory / f"{id_}.txt").read_text()
    assert "# target a:7 --via 'socks5://bob:***@b:1' --via http://c:2\n" in text
    found = saved.get(id_)
    assert found.belongs_to(here)
    assert found.belongs_to(Target.parse("a:7", via=["socks5://bob:other@b:1", "http://c:2"]))
    for via in ([], ["socks5://eve:sesame@b:1", "http://c:2"], ["socks5://bob:sesame@b:1"]):
        assert not found.belongs_to(Target.parse("a:7", via=via))


def test_it_is_saved_once(saved: SavedFailures) -> None:
    id_ = saved.save(SESSION, ["first"], "a:7")
    assert saved.save(SESSION, ["second"], "a:7") == id_
    assert saved.get(id_).comment == "first"


A, B = Target.parse("a:7"), Target.parse("b:7")


def test_a_failure_belongs_to_its_target(saved: SavedFailures) -> None:
    of_a, of_b = saved.save(SESSION, [], "a:7"), saved.save(SESSION, [], "b")
    assert of_a != of_b
    by_hand = saved.directory / "mine.txt"
    by_hand.write_text("send 00\n")
    here = SavedFailures(saved.directory, A)
    assert {failure.id for failure in here.load()[0]} == {of_a, "mine"}
    assert here.others() == 1
    everywhere = SavedFailures(saved.directory, A, any_target=True)
    assert {failure.id for failure in everywhere.load()[0]} == {of_a, of_b, "mine"}
    for failure in everywhere.load()[0]:
        everywhere.mark(failure, passed=True)
    assert {f.id for f in saved.load()[0] if f.passed} == {of_a, "mine"}
    assert SavedFailures(saved.directory, B).prune() == ["mine"]
    assert here.prune() == [of_a]
    assert [failure.id for failure in saved.load()[0]] == [of_b]
    assert saved.others() == 0


def test_a_file_of_another_name_is_not_saved_twice(saved: SavedFailures) -> None:
    saved.directory.mkdir(parents=True)
    (saved.directory / "0a1b2c3d.txt").write_text(f"# passed\n# target tcp:A\n{SESSION}\n")
    assert saved.save(SESSION, [], "a:7") == "0a1b2c3d"
    assert not saved.get("0a1b2c3d").passed
    assert saved.save(SESSION, [], "a:8") != "0a1b2c3d"


def test_marked_and_pruned(saved: SavedFailures) -> None:
    id_ = saved.save(SESSION, ["x"], "a:7")
    other = saved.save(Session.parse("send 00"), ["y"], "a:7")
    saved.mark(saved.get(id_), passed=True)
    assert saved.get(id_).passed
    assert saved.get(id_).comment == "x"
    saved.mark(saved.get(id_), passed=False)
    assert not saved.get(id_).passed
    assert saved.prune() == []
    saved.mark(saved.get(id_), passed=True)
    assert saved.prune() == [id_]
    assert [failure.id for failure in saved.load()[0]] == [other]


def test_nothing_saved(saved: SavedFailures) -> None:
    assert saved.load() == ([], [])
    with pytest.raises(SavedFailuresError, match="no saved failure 'abc' in"):
        saved.get("abc")


def test_an_ambiguous_id(saved: SavedFailures) -> None:
    for index in range(40):
        saved.save(Session.parse(f"pause {index}"), [], "a:7")
    with pytest.raises(SavedFailuresError, match="matches several"):
        saved.get("")


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "0 conversations; there must be one"),
        (b"send 00\nsend 01\n", "2 conversations"),
        (b"# only a comment\n", "0 conversations"),
        (b"sned 00\n", "'sned 00' is not a step"),
        (b"# target a:0\nsend 00\n", "port '0'; must be"),
        (b"# target a:7 'b\nsend 00\n", "No closing quotation"),
        (b"\xff\xfe\0", "not a text file"),
    ],
)
def test_unreadable_files_are_reported(
    saved: SavedFailures, content: bytes, complaint: str
) -> None:
    good = saved.save(SESSION, [], "a:7")
    (saved.directory / "0bad.txt").write_bytes(content)
    loaded, wrong = saved.load()
    assert [failure.id for failure in loaded] == [good]
    assert len(wrong) == 1
    assert complaint in wrong[0]
    with pytest.raises(SavedFailuresError, match="0bad"):
        saved.get("0bad")


def test_written_by_hand(saved: SavedFailures) -> None:
    saved.directory.mkdir(parents=True)
    (saved.directory / "mine.txt").write_text("\n  send 00 \n\n")
    assert saved.get("mine").target is None
    assert saved.get("mine").comment == ""
    assert saved.get("mine").session == Session.parse("send 00")


def test_a_path_that_is_not_a_directory(tmp_path: File) -> None:
    (tmp_path / "file").write_text("")
    saved = SavedFailures(tmp_path / "file" / "failures")
    assert saved.load() == ([], [])
    with pytest.raises(SavedFailuresError, match=r"file.failures"):
        saved.save(SESSION, [], "a:7")
    (saved2 := SavedFailures(tmp_path / "x")).directory.mkdir()
    (saved2.directory / "dir.txt").mkdir()
    assert len(saved2.load()[1]) == 1
    os.symlink("/no/such", saved2.directory / "dangling.txt")
    assert len(saved2.load()[1]) == 2
