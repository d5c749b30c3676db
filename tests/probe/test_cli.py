from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path as File

import pytest

from echoproto import __main__
from echoproto.probe.cli.main import main
from tests.probe.faulty_paths import Path, Relay
from tests.probe.faulty_paths.faults import chunks, named

#: What the command sets in its environment, for Hypothesis.
HYPOTHESIS = ("HYPOTHESIS_STORAGE_DIRECTORY", "HYPOTHESIS_NO_PLUGINS")

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
        ("fuzz http://a:9", "target 'http://a:9' is a URL; try a:9; must be host:port"),
        ("fuzz a:ecko", "port 'ecko'; must be 1 to 65535, or a service's name"),
        ("ping 9999", "target '9999' is a number; try 127.0.0.1:9999"),
        ("replay ::1:7 fin", "target '::1:7' is an IPv6 address without brackets"),
        ("fuzz a -4 -6", "-4 and -6 exclude each other"),
        ("ping unix:/x -6", "-6 needs a host, not 'unix:/x'"),
        ("ping 127.0.0.1:7 -6", "cannot resolve '127.0.0.1' to an IPv6 address"),
        ("fuzz a:7 -n -5", "'-n': -5 is not in the range 0<=x<=10000000"),
        ("fuzz a:7 -n many", "'-n': 'many'; must be a whole number, 0 to 10000000"),
        ("ping a:7 -c 1.5", "'-c': '1.5'; must be a whole number, at least 1"),
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
        ("fuzz a:7 --via b:1080", "--via 'b:1080'; must be socks5://[USER:PASSWORD@]HOST:PORT"),
        ("ping a:7 --via socks5://u:***@127.0.0.1:1", "passwords are left out of files and"),
        ("ping unix:/x --via http://b:1", "--via needs a host, not 'unix:/x'"),
        ("fuzz a:7 --known abc", "--known: no saved failure 'abc' in .echoproto/failures"),
        ("fuzz a:7 --bogus", "unknown option --bogus"),
        ("fuzz a:7 --max-tim 3", "unknown option --max-tim; did you mean --max-time?"),
        ("bogus", "unknown command bogus"),
        ("fuz a:7", "unknown command fuz; did you mean fuzz?"),
        ("replay a:7 fin --times 0", "'--times': 0 is not in the range"),
        ("replay a:7 fin --times 2 --retries 2", "--times and --retries exclude each other"),
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
    assert len((out + err).splitlines()) == 1 or command[0] in ("fuzz", "catalogue")
    assert "Traceback" not in out + err
    assert "done" not in out + err


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
        "--max-time", "60", "--patience", "1", "--exclude", "refused",
    )  # fmt: skip
    assert code == 1
    assert "Failure 1: truncated" in out
    assert f"echoproto replay {broken} 'send ff'" in out
    assert '@example(Conversation.parse("send ff"))' in out
    assert "reproduced in 10 of 10 runs" in out
    assert (
        f"echoproto fuzz {broken} --seed 1 -n 100 --max-time 60 --retries 20 --patience 1 "
        "--exclude refused --token '0d 0a' --size 1234"
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
    code, _, err = run(capsys, "replay", file.stem, "--send-proxy", "v1")
    assert code == 2
    assert "the options of its target are in its file" in err


def test_replay_of_a_conversation_that_passes(
    whole: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, "replay", whole, "send 0d ff; await", "--retries", "3")
    assert code == 0
    assert "passed in 3 runs" in out


def test_replay_gives_the_rate(whole: str, broken: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "replay", whole, "send ff; fin", "--times", "4")
    assert code == 0
    assert out.endswith("\nfailed in 0 of 4 runs (0%)\n")
    code, out, _ = run(capsys, "replay", broken, "send ff; fin", "--times", "1")
    assert code == 1
    assert out.endswith("\nfailed in 1 of 1 run (100%): truncated 1\n")


def test_replay_gives_the_rate_of_a_flaky_path(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = iter([b"x", b"x"] + [b""] * 3 + [b"x"])

    def change(data: bytes) -> bytes:
        return next(chosen, b"x") and data if data == b"\xff" else data

    with Path(chunks(change)) as path:
        target = f"127.0.0.1:{path.port}"
        code, out, _ = run(capsys, "replay", target, "send ff; fin", "--times", "12")
    assert code == 1
    assert "truncated: the path closed after 0 of 1" in out
    assert out.endswith("\nfailed in 3 of 12 runs (25%): truncated 3\n")


def test_replay_waits_for_a_server_that_is_restarted(capsys: pytest.CaptureFixture[str]) -> None:
    with Path(named("restart-on=ff,20ms")) as path:
        target = f"127.0.0.1:{path.port}"
        code, out, _ = run(capsys, "replay", target, "send ff", "--times", "5")
    assert code == 1
    assert re.search(
        r"\nfailed in 5 of 5 runs \(100%\): reset 5; "
        r"after it the path was away for up to \d+\.\d s, then it worked again\n$",
        out,
    )


@pytest.mark.parametrize("times", [(), ("--times", "5")])
def test_replay_says_that_the_path_died(
    times: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("echoproto.probe.search.availability._REVIVAL_SECONDS", 0.1)
    with Path(named("restart-on=ff,1000s")) as path:
        target = f"127.0.0.1:{path.port}"
        code, out, _ = run(capsys, "replay", target, "send 61; await; fin then send ff", *times)
    assert code == 1
    if times:
        assert "\nfailed in 1 of 1 run (100%): reset 1; nothing has worked since an exp" in out
    else:
        assert out.endswith("\nfailed in run 1: reset\n")


def test_a_saved_failure_of_another_target_stays(
    whole: str, broken: str, capsys: pytest.CaptureFixture[str], tmp_path: File
) -> None:
    folder = tmp_path / ".echoproto" / "failures"
    folder.mkdir(parents=True)
    file = folder / "abcd0123.txt"
    file.write_text(f"# truncated\n# target {broken}\nsend ff\n")
    before = file.read_text()
    code, out, _ = run(capsys, "fuzz", whole, "-n", "0", "--prune", "--retries", "1")
    assert code == 0
    assert "not replayed: 1 saved failure of other targets (--any-target replays" in out
    assert "passes now" not in out
    code, out, _ = run(
        capsys, "fuzz", whole, "-n", "0", "--prune", "--retries", "1", "--any-target"
    )
    assert code == 0
    assert "saved failure abcd0123 passes now" in out
    assert "--any-target" in out
    assert run(capsys, "replay", whole, "abcd0123")[0] == 0
    assert file.read_text() == before
    assert run(capsys, "replay", "abcd0123")[0] == 1


def test_a_saved_failure_passes_again_and_is_pruned(
    whole: str, capsys: pytest.CaptureFixture[str], tmp_path: File
) -> None:
    folder = tmp_path / ".echoproto" / "failures"
    folder.mkdir(parents=True)
    (folder / "abcd0123.txt").write_text(f"# truncated\n# target {whole}\nfin\n")
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


@pytest.fixture
def silent() -> Iterator[str]:
    """It returns the first byte of 4, so that it is an echo, and no ping."""
    with Path(chunks(lambda data: data if len(data) < 20 else b"")) as path:
        yield f"127.0.0.1:{path.port}"


def test_ping_as_ping(whole: str, silent: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ping", whole, "-c", "3", "-i", "0", "-q", "-4")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["PING", "---", "3", "rtt"]
    code, out, _ = run(capsys, "ping", silent, "-c", "1", "-W", "0.1")
    assert code == 1
    assert "stalled: nothing for 0.1 s, 0 of 56 bytes came back" in out
    assert "1 sent, 0 received, 100% loss" in out
    code, out, _ = run(capsys, "ping", silent, "-w", "0.2")
    assert code == 1
    assert "1 sent, 0 received, 0% loss, 1 unanswered at the deadline" in out
    assert "seq=1 unanswered: no answer yet at the deadline" in out
    code, out, _ = run(capsys, "ping", whole, "-w", "0.3", "-i", "0.01", "-q")
    assert code == 0
    code, out, _ = run(capsys, "ping", whole, "-w", "0.1", "-c", "9", "-i", "10", "-q", "--json")
    assert code == 1
    assert json.loads(out)["received"] == 1


@pytest.mark.parametrize("options", ["-W 0", "-W x", "-w 0", "-w -1"])
def test_ping_with_a_time_that_is_none(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "ping", "a:7", *options.split())
    assert (code, out) == (2, "")
    assert "must be a number, more than 0" in err


def test_ping_in_json(whole: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ping", whole, "-c", "2", "--flood", "--json")
    (summary,) = map(json.loads, out.splitlines())
    assert (summary["sent"], summary["lost"]) == (2, 0)
    assert summary["target"] == whole
    assert summary["version"].startswith("echoproto ")
    assert datetime.fromisoformat(summary["date"]).utcoffset() is not None
    code, out, _ = run(capsys, "ping", whole, "-c", "2", "-i", "0", "--json")
    assert code == 0
    assert [json.loads(line).get("verdict") for line in out.splitlines()] == ["ok", "ok", None]


def test_ping_of_a_broken_path(capsys: pytest.CaptureFixture[str]) -> None:
    with Path(chunks(lambda data: data[:20])) as path:
        code, out, _ = run(capsys, "ping", f"127.0.0.1:{path.port}", "-c", "1", "-W", "1")
    assert code == 1
    assert "seq=1 stalled: nothing for 1 s, 20 of 56 bytes came back" in out
    assert "1 sent, 0 received, 100% loss" in out


def interrupted(*args: str, after: str, signal_: signal.Signals = signal.SIGINT) -> tuple[int, str]:
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
        process.send_signal(signal_)
        output += process.stdout.read()
    return process.returncode, output


def test_ctrl_c(whole: str) -> None:
    code, output = interrupted("ping", whole, "-i", "0.01", after="seq=2 ")
    assert code == 0  # as ping(8)
    assert "rtt min/avg" in output
    assert "Traceback" not in output
    code, output = interrupted("fuzz", whole, "-n", "1000000", after="fuzz")
    assert code == 130
    assert "interrupted; no failures so far" in output
    assert "Traceback" not in output


def test_sigterm_ends_it_with_its_report_and_files(whole: str, tmp_path: File) -> None:
    report = tmp_path / "report.xml"
    args = ("fuzz", whole, "-n", "1000000", "--junit", str(report))
    code, output = interrupted(*args, after="fuzz", signal_=signal.SIGTERM)
    assert code == 143
    assert "interrupted; no failures so far" in output
    assert "Traceback" not in output
    assert "interrupted; no failures so far" in report.read_text()
    code, output = interrupted("ping", whole, "-i", "0.01", after="seq=2 ", signal_=signal.SIGTERM)
    assert code == 143
    assert "rtt min/avg" in output


@pytest.mark.slow
@pytest.mark.waits
def test_a_delay_is_a_failure_only_when_asked(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def late_by(ms: int) -> type[Relay]:
        class Late(Relay):
            def client_ended(self) -> None:
                self.later(ms if self.offset == 2 else 0, super().client_ended)  # after ff ff

        return Late

    case = ("--case", "E-012")
    with Path(late_by(1200)) as path:
        code, out, _ = run(capsys, "fuzz", f"127.0.0.1:{path.port}", *case)
        assert code == 0
        assert re.search(r"E-012: the path closed 1\.\d+ s after the last byte or FIN", out)
        assert re.search(r"delayed: 1 conversation, by 1\.\d+ s at most", out)
    with Path(late_by(200)) as path:
        args = ("fuzz", f"127.0.0.1:{path.port}", *case, "--no-shrink")
        code, out, _ = run(capsys, *args)
        assert code == 0
        assert "delayed" not in out
        code, out, _ = run(capsys, *args, "--max-delay", "0.1")
        assert code == 1
        assert "Failure 1: delayed" in out
        assert "all bytes came back, but the path closed 0." in out


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("--window", "0", "1<=x<=1024"),
        ("--timeout", "0", "more than 0"),
        ("--connect-timeout", "nan", "more than 0"),
        ("--patience", "x", "more than 0"),
        ("--max-delay", "-1", "more than 0"),
    ],
)
def test_waits_out_of_bounds(
    option: str, value: str, allowed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, "fuzz", "127.0.0.1:9", option, value)
    assert code == 2
    assert len(err.splitlines()) == 1
    assert option in err
    assert value in err
    assert allowed in err


def test_a_pipe_closed_by_its_reader(whole: str) -> None:
    command = f"{sys.executable} -m echoproto catalogue | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("E-001")
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command", ["catalogue", "relay --list", "ping {} -c 1", "replay {} fin", "fuzz {} -n 1"]
)
def test_a_standard_output_without_space(whole: str, command: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "echoproto", *command.format(whole).split()],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "echoproto: standard output: No space left on device\n"


def test_files_without_space(capsys: pytest.CaptureFixture[str], whole: str) -> None:
    """The others are written, and the terminal shows the result."""
    args = "--case E-001 --html /dev/full --jsonl /dev/full --junit r.xml"
    code, out, err = run(capsys, "fuzz", whole, *args.split())
    assert code == 2
    assert "no failures" in out
    problem = "/dev/full: No space left on device"
    assert err == f"echoproto: --html {problem}; --jsonl {problem}\n"
    assert "<testsuite" in File("r.xml").read_text()


def test_the_bare_command_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys)
    assert (code, out) == (2, "")
    assert run(capsys, "--help")[1] == err
    lines = err.splitlines()
    assert lines[0] == "Usage: echoproto [OPTIONS] COMMAND [ARGS]..."
    assert [line.split()[0] for line in lines[-6:] if line[2] != " "] == [
        *("catalogue", "fuzz", "ping", "relay", "replay")
    ]


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
    for name in HYPOTHESIS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["echoproto", "--version"])
    # As os.path.expanduser returns it for a user without an entry in passwd(5).
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 0
    assert [os.environ.pop(name) for name in HYPOTHESIS] == ["/.cache/echoproto/hypothesis", "1"]


@pytest.mark.parametrize(("importer", "missing"), [("main", "click"), ("campaign", "rich")])
def test_a_missing_extra_is_named(
    importer: str,
    missing: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # Set already, so that main() does not change the environment of the other tests.
    for variable in HYPOTHESIS:
        monkeypatch.setenv(variable, "unused")
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "echoproto.probe.cli.main", None)
        with pytest.raises(ModuleNotFoundError):
            __main__.main()

    class Missing:
        def find_spec(self, name: str, *_: object) -> None:
            if name == f"echoproto.probe.cli.{importer}":
                raise ModuleNotFoundError(f"No module named '{missing}'", name=missing)

    monkeypatch.setattr(sys, "argv", ["echoproto", "fuzz", "a:7"])
    monkeypatch.delitem(sys.modules, f"echoproto.probe.cli.{importer}", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "", f"echoproto: {missing} is missing: pip install 'echoproto[probe]'\n"
    )  # fmt: skip


def test_hypothesis_is_missed_before_the_campaign(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in HYPOTHESIS:
        monkeypatch.setenv(variable, "unused")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    monkeypatch.setattr(sys, "argv", ["echoproto", "fuzz", "a:7"])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 2
    assert capsys.readouterr() == (
        "", "echoproto: hypothesis is missing: pip install 'echoproto[probe]'\n"
    )  # fmt: skip
