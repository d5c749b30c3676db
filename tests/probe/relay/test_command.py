"""``echoproto relay``: what it prints, logs, refuses, and how it ends."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File

import pytest

from echoproto.probe.cli.main import main
from echoproto.probe.relay.faults import FAULTS, GROUPS
from tests.probe.relay.clients import converse, listener, port_of


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ("", "Missing argument 'LISTEN'"),
        ("127.0.0.1", "LISTEN '127.0.0.1' is no address; must be host:port"),
        ("127.0.0.1:65536", "LISTEN '127.0.0.1:65536' is no address; must be host:port"),
        ("unix:", "LISTEN 'unix:' is no address; must be host:port"),
        ("unix:/no/such/s", "LISTEN 'unix:/no/such/s': No such file or directory"),
        ("192.0.2.1:0", "LISTEN '192.0.2.1:0': Cannot assign requested address"),
        ("no.invalid:0", "LISTEN 'no.invalid:0': "),
        ("[::1]:0 9999", "target '9999' is a number; try 127.0.0.1:9999"),
        ("[::1]:0 ws://a", "target 'ws://a/': a relay cannot forward to it; must be host:port or"),
        ("[::1]:0 tls:a:7", "target 'tls:a:7': a relay passes TLS on as it is; must be host:port"),
        ("[::1]:0 no.invalid:7", "cannot resolve 'no.invalid'"),
        ("[::1]:0 --fault xonxof", "--fault 'xonxof': no fault is named 'xonxof'; did you mean "),
        ("[::1]:0 --fault back:xonxof", "'back:xonxof': no fault is named 'xonxof'; did you mean"),
        ("[::1]:0 --fault q", "--fault 'q': no fault is named 'q'; --list shows all"),
        ("[::1]:0 --fault latency", "--fault 'latency': latency needs an argument: latency=TIME"),
        ("[::1]:0 --fault iac-split=3", "--fault 'iac-split=3': iac-split takes no argument"),
        ("[::1]:0 --fault latency=3", "'3' is not a time; must be 75ms or 2s, say"),
        ("[::1]:0 --fault latency=2d", "'2d' is not a time"),
        ("[::1]:0 --fault latency=86401s", "'86401s' is not a time; must be 75ms or 2s, say, and"),
        ("[::1]:0 --fault flip-at=-1", "'-1' is not a number of bytes; must be 4096, 64Ki, 100k"),
        ("[::1]:0 --fault bandwidth=0", "'0' is not a number of bytes; must be"),
        ("[::1]:0 --fault at-most=x", "'x' is not a number; must be a whole one, 1 to 10000000"),
        ("[::1]:0 --fault at-most=0", "'0' is not a number; must be a whole one, 1 to 10000000"),
        ("[::1]:0 --fault trailer=x", "'x' is not bytes; must be in hexadecimal, as 0d0a"),
        ("[::1]:0 --fault trailer=", "'' is not bytes; must be in hexadecimal, as 0d0a"),
        ("[::1]:0 --fault replace=41", "'41' is not OLD,NEW; must be in hexadecimal, as 0d0a,0a"),
        ("[::1]:0 --fault delay-one-in=5", "'5' is not N,TIME; must be 10,200ms, say"),
        ("[::1]:0 --fault iac-split@0%", "'0%' is not a rate; must be more than 0% and at most"),
        ("[::1]:0 --fault iac-split@x", "'x' is not a rate; must be more than 0% and at most 100%"),
        ("[::1]:0 --rate 0.1", "'--rate': '0.1' is not a rate; must be more than 0% and at most"),
        ("[::1]:0 --seed -1", "'--seed': -1 is not in the range x>=0"),
        ("[::1]:0 --log /no/such/f", "--log /no/such/f: No such file or directory"),
        ("[::1]:0 --faults x", "unknown option --faults; did you mean --fault?"),
    ],
)
def test_bad_arguments_get_one_line(
    args: str, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["relay", *args.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.startswith("echoproto: ")
    assert err.count("\n") == 1


def test_an_address_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with listener() as used:
        place = f"127.0.0.1:{port_of(used)}"
        assert main(["relay", place]) == 2
    assert capsys.readouterr().err == f"echoproto: LISTEN '{place}': Address already in use\n"


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["relay", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for fault in FAULTS:
        at = next(n for n, line in enumerate(lines) if line.split()[:1] == [fault.usage])
        assert lines[at + 1].strip() == fault.what
        assert lines[at + 2].strip() == f"Seen in: {fault.seen}"


def test_the_tables_of_the_manual() -> None:
    text = (File(__file__).parents[3] / "docs" / "relay.rst").read_text()
    for heading, faults in GROUPS.items():
        section = text.partition(f"\n{heading}\n{'~' * len(heading)}\n")[2].partition("\n\n\n")[0]
        rows = re.findall(r"   \* - (.+)\n     - (.+)\n     - (.+)\n", section.partition("~~~")[0])
        expected = [
            (f"``{f.usage}``" + (f", default ``{f.default}``" if f.default else ""), f.what, f.seen)
            for f in faults
        ]
        assert rows[1 : len(faults) + 1] == expected


@contextmanager
def running(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command as a process, and where it listens."""
    command = [sys.executable, "-m", "echoproto", "relay", *args]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.match(r"listening on (\S+); to ", line)
            assert match, line + process.stdout.read()
            yield process, match[1]
        finally:
            process.kill()


def ended(process: subprocess.Popen[str], number: int) -> tuple[int, list[str]]:
    """End the command with a signal; return the exit code and what it has printed."""
    assert process.stdout is not None
    process.send_signal(number)
    lines = process.stdout.read().splitlines()
    return process.wait(10), lines


def test_what_it_prints_and_logs(echo_port: int, tmp_path: File) -> None:
    log = tmp_path / "log.jsonl"
    faults = ["--fault", "iac-swallowed", "--fault", "end-resets@50%", "--seed", "3"]
    with running("127.0.0.1:0", f"127.0.0.1:{echo_port}", *faults, "--log", str(log)) as (
        process,
        place,
    ):
        port = int(place.rpartition(":")[2])
        ends = [converse(port, b"a\xffb") for _ in range(6)]
        code, lines = ended(process, signal.SIGINT)
    assert code == 130
    assert {received for received, _ in ends} == {b"ab"}
    events = [json.loads(line) for line in log.read_text().splitlines()]
    acted = [e for e in events if e["event"] == "fault"]
    assert [e["connection"] for e in acted if e["fault"] == "iac-swallowed"] == [1, 2, 3, 4, 5, 6]
    assert acted[0] == {
        "seconds": acted[0]["seconds"],
        "event": "fault",
        "connection": 1,
        "fault": "iac-swallowed",
        "text": "removed 1 byte at 1: ff",
        "action": "changed",
        "at": 1,
        "removed_bytes": 1,
        "removed": "ff",
        "inserted_bytes": 0,
        "inserted": "",
    }
    cut = [e["connection"] for e in acted if e["fault"] == "end-resets@50%"]
    assert 1 <= len(cut) <= 5
    closed = [e for e in events if e["event"] == "closed"]
    assert [e["connection"] for e in closed] == [1, 2, 3, 4, 5, 6]
    for event in closed:
        assert (event["client_sent"], event["to_server"], event["to_client"]) == (3, 2, 2)
        by_fault = "reset by end-resets@50%"
        assert event["how"] == (
            by_fault if event["connection"] in cut else "both sides have closed"
        )
    assert events[-1]["event"] == "end"
    assert events[-1]["acted"] == {"iac-swallowed": 6, "end-resets@50%": len(cut)}
    # The terminal shows what the faults did, and the sums.
    assert lines[0] == "connection 1: iac-swallowed: removed 1 byte at 1: ff"
    assert len(lines) == len(acted) + 1
    assert lines[-1] == (
        f"6 connections; iac-swallowed acted on 6; end-resets@50% acted on {len(cut)}"
    )


def test_a_log_without_space_ends_it() -> None:
    """What was done would be missing in a log that seems complete."""
    args = [sys.executable, "-m", "echoproto", "relay", "127.0.0.1:0", "--log", "/dev/full"]
    with subprocess.Popen(
        args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        place = process.stdout.readline().partition(";")[0]
        socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2]))).close()
        _, err = process.communicate(timeout=10)
    assert process.returncode == 2
    assert err == "echoproto: --log /dev/full: No space left on device\n"


def test_the_rate_of_all(tmp_path: File) -> None:
    log = tmp_path / "log.jsonl"
    faults = ["--fault", "cr-to-lf", "--fault", "iac-swallowed@100%", "--rate", "20%"]
    with running("127.0.0.1:0", *faults, "--log", str(log)) as (process, place):
        port = int(place.rpartition(":")[2])
        received = [converse(port, b"\r\xff")[0] for _ in range(30)]
        code, lines = ended(process, signal.SIGTERM)
    assert code == 143
    assert set(received) == {b"\r", b"\n"}
    assert 1 <= received.count(b"\n") <= 15
    assert lines[-1].startswith("30 connections; ")


def test_it_listens_on_a_unix_socket_and_removes_it(tmp_path: File) -> None:
    path = tmp_path / "relay"
    with running(f"unix:{path}", "--fault", "trailer=2e") as (process, place):
        assert place == f"unix:{path}"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(10)
            client.connect(str(path))
            client.sendall(b"a")
            client.shutdown(socket.SHUT_WR)
            received = b""
            while data := client.recv(10):
                received += data
        assert received == b"a."
        assert ended(process, signal.SIGTERM)[0] == 143
    assert not path.exists()


def test_it_listens_on_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6")
    with running("[::1]:0") as (process, place):
        match = re.fullmatch(r"\[::1\]:(\d+)", place)
        assert match
        with socket.create_connection(("::1", int(match[1])), timeout=10) as client:
            client.sendall(b"a")
            assert client.recv(10) == b"a"
        assert ended(process, signal.SIGINT) == (130, ["1 connection"])
