from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path as File

import pytest

from echoproto import __main__
from echoproto.probe.cli.main import main
from tests.probe.faulty_paths import Path
from tests.probe.faulty_paths.faults import chunks

pytestmark = pytest.mark.usefixtures("small_catalogue")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broken() -> Iterator[str]:
    """A path that loses FF."""
    with Path(chunks(lambda data: data.replace(b"\xff", b""))) as path:
        yield f"127.0.0.1:{path.port}"


@pytest.fixture
def whole(echo_port: int) -> str:
    return f"127.0.0.1:{echo_port}"


@pytest.fixture
def unreachable() -> Iterator[str]:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(args)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ("fuzz", "Missing argument 'TARGET'"),
        ("fuzz a", "target 'a'; must be host:port"),
        ("fuzz a:7 -n -5", "'-n': -5 is not in the range 0<=x<=10000000"),
        ("fuzz a:7 -n many", "'-n': 'many' is not a valid integer"),
        ("fuzz a:7 --max-time 0", "'--max-time': '0'; must be a number, more than 0"),
        ("fuzz a:7 --max-time soon", "'--max-time': 'soon'; must be a number"),
        ("fuzz a:7 --rate nan", "'--rate': 'nan'; must be a number, more than 0"),
        ("fuzz a:7 --rate -1", "'--rate': '-1'; must be a number, more than 0"),
        ("fuzz a:7 --parallel 0", "'--parallel': 0 is not in the range 1<=x<=1024"),
        ("fuzz a:7 --retries 0", "'--retries': 0 is not in the range"),
        ("fuzz a:7 --exclude slow", "'--exclude': 'slow' is not one of 'corrupt', 'extra'"),
        ("fuzz a:7 --token zz", "'--token': 'zz' is not a payload; allowed are bytes in hex"),
        ("fuzz a:7 --case E-999", "'--case': 'E-999'; must be E-001 to E-"),
        ("fuzz a:7 --html /no/such/dir/f", "--html /no/such/dir/f: No such file or directory"),
        ("fuzz a:7 --jsonl /", "'--jsonl': File '/' is a directory"),
        ("fuzz a:7 --ca x", "--ca needs a tls: target"),
        ("fuzz a:7 --send-proxy v3", "'--send-proxy': 'v3' is not one of 'v1', 'v2'"),
        ("fuzz a:7 --bogus", "unknown option --bogus"),
        ("fuzz a:7 --max-tim 3", "unknown option --max-tim; did you mean --max-time?"),
        ("bogus", "unknown command bogus"),
        ("fuz a:7", "unknown command fuz; did you mean fuzz?"),
        ("replay zz", "give TARGET and CONVERSATION, or the ID"),
        ("replay abc", "no saved failure 'abc' in .echoproto/failures"),
        ("replay a:7 sned", "'sned' is not a step; allowed are send HEX"),
        ("ping a:7 -c 0", "'-c': 0 is not in the range x>=1"),
        ("ping a:7 -i -1", "'-i': '-1'; must be a number, 0 or more"),
        ("catalogue --case 17", "'--case': '17'; must be E-001 to E-"),
    ],
)
def test_bad_arguments_get_one_line(
    args: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *args.split())
    assert code == 2
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1
    assert err.startswith("echoproto: ")


def test_an_empty_token(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "fuzz", "a:7", "--token", "")
    assert code == 2
    assert "'' is empty" in err


@pytest.mark.parametrize("command", [["fuzz"], ["ping", "-c", "1"], ["replay"], ["catalogue"]])
def test_connection_refused(
    command: list[str], unreachable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    script = ["send 00"] if command == ["replay"] else []
    code, out, err = run(capsys, *command, unreachable, *script)
    assert code == 2
    assert "connection refused" in out + err
    assert "Traceback" not in out + err


def test_a_name_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fuzz", "no.invalid:7")
    assert code == 2
    assert "cannot resolve 'no.invalid'" in out


def test_a_file_that_cannot_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "fuzz", "tls:127.0.0.1:1", "--ca", "/no/such")
    assert code == 2
    assert "--ca /no/such: No such file" in out


def test_a_clean_path(whole: str, capsys: pytest.CaptureFixture[str], tmp_path: File) -> None:
    code, out, err = run(capsys, "fuzz", whole, "-n", "50", "--seed", "7")
    assert (code, err) == (0, "")
    assert "seed 7" in out
    assert f"echoproto fuzz {whole} --seed 7 -n 50" in out
    assert "\x1b" not in out
    assert not (tmp_path / ".hypothesis").exists()


def test_a_broken_path_with_all_reports(
    broken: str, capsys: pytest.CaptureFixture[str], tmp_path: File
) -> None:
    code, out, _ = run(
        capsys, "fuzz", broken, "-n", "100", "--seed", "1", "--html", "r.html", "--junit", "r.xml",
        "--jsonl", "r.jsonl", "--token", "0d 0a", "--size", "1234", "--retries", "20",
        "--max-time", "60", "--exclude", "refused",
    )  # fmt: skip
    assert code == 1
    assert "Failure 1: truncated" in out
    assert f"echoproto replay {broken} 'send ff'" in out
    assert '@example(Conversation.parse("send ff"))' in out
    assert "reproduced in 10 of 10 runs" in out
    assert (
        f"echoproto fuzz {broken} --seed 1 -n 100 --max-time 60 --retries 20 --exclude refused "
        "--token '0d 0a' --size 1234"
    ) in out
    assert "<html" in (tmp_path / "r.html").read_text()
    assert "<testsuite" in (tmp_path / "r.xml").read_text()
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert lines[0]["event"] == "start"
    assert lines[-1]["event"] == "end"
    (file,) = (tmp_path / ".echoproto" / "failures").iterdir()

    code, out, _ = run(capsys, "replay", file.stem)
    assert code == 1
    assert "failed in run 1: truncated" in out
    code, out, _ = run(capsys, "replay", broken, file.stem)
    assert code == 1


def test_replay_of_a_conversation_that_passes(
    whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "replay", whole, "send 0d ff; await", "--retries", "3")
    assert code == 0
    assert "passed in 3 runs" in out


def test_a_saved_failure_passes_again_and_is_pruned(
    whole: str, capsys: pytest.CaptureFixture[str], tmp_path: File
) -> None:
    folder = tmp_path / ".echoproto" / "failures"
    folder.mkdir(parents=True)
    (folder / "abcd0123.txt").write_text(f"# truncated\n# target {whole} --send-proxy v1\nfin\n")
    (folder / "abcd0124.txt").write_text("send ff\n")
    assert run(capsys, "replay", "abcd0124")[0] == 2
    assert run(capsys, "replay", "abcd")[0] == 2
    code, out, _ = run(capsys, "replay", whole, "abcd0124")
    assert code == 0
    assert (folder / "abcd0124.txt").read_text() == "# passed\nsend ff\n"
    code, out, _ = run(capsys, "fuzz", whole, "-n", "0", "--prune", "--retries", "1")
    assert code == 0
    assert "deleted saved failure abcd0123" in out
    assert list(folder.iterdir()) == []


def test_the_target_of_a_saved_failure_comes_with_its_options(
    tmp_path: File, unix_path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / ".echoproto" / "failures"
    folder.mkdir(parents=True)
    (folder / "abcd0123.txt").write_text(f"# target unix:{unix_path}\nsend ff\n")
    code, out, _ = run(capsys, "replay", "abcd0123")
    assert code == 0
    assert unix_path in out


def test_the_catalogue(capsys: pytest.CaptureFixture[str], broken: str) -> None:
    code, out, _ = run(capsys, "catalogue")
    assert code == 0
    assert out.count("\nE-") >= 60
    code, out, _ = run(capsys, "catalogue", "--case", "e-011")
    assert out.splitlines()[0].startswith("E-011")
    code, out, _ = run(capsys, "catalogue", broken, "--case", "E-011")
    assert code == 1
    code, out, _ = run(capsys, "fuzz", broken, "--case", "E-017", "--no-shrink")
    assert code == 0


def test_ping(whole: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ping", whole, "-c", "3", "-i", "0", "-s", "100")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"PING {whole} ({whole}) 100 bytes of data."
    assert lines[3].startswith(f"100 bytes from {whole}: seq=3 time=")
    assert lines[5] == "3 sent, 3 received, 0% loss"
    assert lines[6].startswith("rtt min/avg/p50/p99/max/mdev = ")


def test_ping_in_json(whole: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ping", whole, "-c", "2", "--flood", "--json")
    (summary,) = map(json.loads, out.splitlines())
    assert (summary["sent"], summary["lost"]) == (2, 0)
    code, out, _ = run(capsys, "ping", whole, "-c", "2", "-i", "0", "--json")
    assert code == 0
    assert [json.loads(line).get("verdict") for line in out.splitlines()] == ["ok", "ok", None]


def test_ping_of_a_broken_path(capsys: pytest.CaptureFixture[str]) -> None:
    with Path(chunks(lambda data: data[:20])) as path:
        code, out, _ = run(capsys, "ping", f"127.0.0.1:{path.port}", "-c", "1")
    assert code == 1
    assert "seq=1 stalled: nothing for 1 s, 20 of 56 bytes are back" in out
    assert "1 sent, 0 received, 100% loss" in out


def interrupted(*args: str, after: str) -> tuple[int, str]:
    """Run a command, interrupt it after it printed ``after``; return exit code and output."""
    with subprocess.Popen(
        [sys.executable, "-m", "echoproto", *args], stdout=subprocess.PIPE, text=True,
        stderr=subprocess.STDOUT, env=None,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        output = ""
        while after not in output:
            line = process.stdout.readline()
            assert line, output
            output += line
        process.send_signal(signal.SIGINT)
        output += process.stdout.read()
    return process.returncode, output


def test_ctrl_c(whole: str) -> None:
    code, output = interrupted("ping", whole, "-i", "0.01", after="seq=2 ")
    assert code == 130
    assert "rtt min/avg" in output
    assert "Traceback" not in output
    code, output = interrupted("fuzz", whole, "-n", "1000000", after="fuzz")
    assert code == 130
    assert "interrupted; no failures so far" in output
    assert "Traceback" not in output


def test_a_pipe_closed_by_its_reader(whole: str) -> None:
    command = f"{sys.executable} -m echoproto catalogue | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("E-001")
    assert done.stderr == ""


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--version")
    assert code == 0
    assert out.startswith("echoproto ")
    code, out, _ = run(capsys, "fuzz", "--help")
    assert code == 0
    assert "--send-proxy" in out


def test_a_user_without_a_home_can_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HYPOTHESIS_STORAGE_DIRECTORY", raising=False)
    monkeypatch.setattr(sys, "argv", ["echoproto", "--version"])
    # As os.path.expanduser returns it for a user without an entry in passwd(5).
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0
    assert os.environ.pop("HYPOTHESIS_STORAGE_DIRECTORY") == "/.cache/echoproto/hypothesis"


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set already, so that main() does not change the environment of the other tests.
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", "unused")
    monkeypatch.setitem(sys.modules, "echoproto.probe.cli.main", None)
    with pytest.raises(ModuleNotFoundError):
        __main__.main()

    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == "echoproto.probe.cli.main":
                raise ModuleNotFoundError("No module named 'click'", name="click")

    monkeypatch.delitem(sys.modules, "echoproto.probe.cli.main")
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(SystemExit, match=r"click is missing: pip install 'echoproto\[probe\]'"):
        __main__.main()
