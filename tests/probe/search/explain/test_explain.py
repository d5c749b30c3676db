from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from echoproto.probe.report.explanation import to_json
from echoproto.probe.script.conversation import Session
from echoproto.probe.search.explain.explain import explain
from echoproto.probe.search.explain.explanation import Effect, Explanation
from echoproto.probe.search.explain.findings import Findings
from echoproto.probe.search.explain.lab import Budget
from echoproto.probe.search.explain.sentence import sentence
from echoproto.probe.wire.verdict import Fault
from tests.probe.faulty_paths import FAULTS
from tests.probe.search.explain.expected import wrong_fields
from tests.probe.search.explain.simulated import Path, failing, simulated


def each(change: Any) -> Path:
    """A path that changes each write."""
    return lambda writes: b"".join(map(change, writes))


def whole(change: Any) -> Path:
    """A path that changes the stream of a connection."""
    return lambda writes: change(b"".join(writes))


def explained(script: str, path: Path, budget: Budget | None = None) -> dict[str, Any]:
    explanation = explain(Session.parse(script), simulated(path), (10, 10), budget)
    return {} if explanation is None else to_json(explanation)


def flipped(offset: int) -> Path:
    return whole(
        lambda s: s[:offset] + bytes([s[offset] ^ 1]) + s[offset + 1 :] if len(s) > offset else s
    )


def sniffed(data: bytes) -> bytes:
    """Nothing passes before the fifth byte."""
    return data if len(data) > 4 else b""


def unfolded(writes: Sequence[bytes]) -> bytes:
    """The LF of a CR LF is lost where the two are in two writes."""
    received = b""
    for before, write in zip((b"", *writes), writes, strict=False):
        received += write[1:] if before.endswith(b"\r") and write[:1] == b"\n" else write
    return received


def doubled(writes: Sequence[bytes]) -> bytes:
    return b"".join(w * 2 if number == 1 else w for number, w in enumerate(writes))


HIGH = [f"{value:02x}" for value in range(0x80, 0x100)]


@pytest.mark.parametrize(
    ("script", "path", "expected"),
    [
        # Shrinking ends at one byte; the others are found all the same.
        ("send 11", each(lambda w: re.sub(b"[\x11\x13]", b"", w)),
         {"effect": "deleted", "bytes": ["11", "13"], "becomes": {"11": "", "13": ""},
          "position": "anywhere"}),
        ("send 0a", each(lambda w: w.replace(b"\n", b"\r\n")),
         {"effect": "inserted", "bytes": ["0a"], "becomes": {"0a": "0d 0a"}}),
        ("send 80", each(lambda w: w.decode("utf-8", "ignore").encode()),
         {"effect": "deleted", "bytes": HIGH}),
        ("send 41", each(bytes.lower), {"effect": "replaced",
         "bytes": [f"{value:02x}" for value in range(0x41, 0x5B)]}),
        # A class of sequences.
        ("send ff fb", each(lambda w: re.sub(b"\xff[\xfb-\xfe]", b"", w)),
         {"bytes": ["ff fb", "ff fc", "ff fd", "ff fe"], "effect": "deleted"}),
        # Bytes that matter only as one of a class belong to it all the same.
        ("send 25 30 30",
         each(lambda w: re.sub(b"%([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), w)),
         {"bytes": ["25 30 30"], "becomes": {"25 30 30": "00"}, "effect": "replaced"}),
        # Places.
        ("send 07", whole(lambda s: s[:100].replace(b"\x07", b"") + s[100:]),
         {"bytes": ["07"], "effect": "deleted", "position": None}),
        ("send 0d; send 0a", unfolded,
         {"bytes": ["0d 0a"], "effect": "deleted", "position": "border",
          "needs": ["several-writes"]}),
        ("send 03", whole(lambda s: s.removeprefix(b"\x03")),
         {"bytes": ["03"], "effect": "deleted", "position": "start"}),
        ("send 00", each(lambda w: w[1:]), {"effect": "deleted", "position": "start"}),
        ("send 00", whole(lambda s: s[:1] + s), {"effect": "duplicated", "position": "start"}),
        ("send 00*101", flipped(100), {"effect": "replaced", "position": {"offset": 100}}),
        # Sizes, with what passes beside them.
        ("send 00*1460", each(lambda w: w[:-1] if len(w) == 1460 else w),
         {"effect": "deleted", "size": {"unit": "write", "least": 1460, "most": 1460},
          "position": "end"}),
        ("send 00*512", each(lambda w: w if len(w) % 512 else b""),
         {"effect": "deleted", "size": {"unit": "write", "least": 512, "multiple_of": 512}}),
        ("send 00*8193", each(lambda w: w[:8192]),
         {"effect": "truncated", "size": {"unit": "write", "least": 8193}}),
        ("send 00*300", whole(lambda s: s[:299]),
         {"effect": "truncated", "size": {"unit": "connection", "least": 300}}),
        ("send 00", whole(sniffed),
         {"effect": "withheld", "size": {"unit": "connection", "least": 1, "most": 4}}),
        # Several writes.
        ("send 00; send 00", doubled, {"effect": "duplicated", "needs": ["several-writes"]}),
    ],
)  # fmt: skip
def test_a_path_is_explained(script: str, path: Path, expected: dict[str, Any]) -> None:
    said = explained(script, path)
    assert {name: said.get(name) for name in expected} == expected
    for name in ("bytes", "size"):
        assert name in expected or name not in said
    assert said["conversations"] <= 100


def test_the_sentence_names_bytes_place_and_what_passes() -> None:
    path = each(lambda w: re.sub(b"[\x11\x13]", b"", w))
    assert explained("send 11", path)["text"] == "deletes 11 and 13, anywhere in the stream"
    text = explained("send 00*1460", each(lambda w: w[:-1] if len(w) == 1460 else w))["text"]
    assert text.endswith("in a write of exactly 1460 bytes (1459 and 1461 pass)")


def test_what_stops_in_the_middle_has_sent_something_back() -> None:
    stalled = Explanation("", Effect.WITHHELD, rate=(5, 14))
    assert sentence(stalled, Findings()) == "sends nothing back, in 5 of 14 runs"
    part = sentence(stalled, Findings(part=True))
    assert part == "stops before all bytes are back, in 5 of 14 runs"


def test_how_late_is_said_even_if_there_is_time_for_little_else() -> None:
    late = failing(lambda session: Fault.DELAYED)
    explanation = explain(
        Session.parse("send 00; fin"),
        lambda session: replace(late(session), wait=2.0),
        (3, 3),
        Budget(3),
    )
    assert explanation is not None
    assert (explanation.text, explanation.delay_ms) == ("answers 2000 ms late", 2000)


def test_suspects_fit_the_experiments() -> None:
    flow = explained("send 11", each(lambda w: re.sub(b"[\x11\x13]", b"", w)))
    assert [suspect["remedy"] for suspect in flow["suspects"]] == ["stty -ixon -ixoff"]
    assert "suspects" not in explained("send b7", each(lambda w: w.replace(b"\xb7", b"")))


def test_a_session_that_does_not_fail_any_more_has_no_explanation() -> None:
    assert explained("send 11", whole(bytes)) == {}


def test_the_budget_is_kept_and_what_is_not_known_is_left_out() -> None:
    path = each(lambda w: w.decode("utf-8", "ignore").encode())
    few = explained("send 80", path, Budget(11))
    # One more sees whether the session itself still fails.
    assert few["conversations"] <= 12
    assert few["bytes"] == ["80"]  # the others were not tried
    # Nothing but that it fails: no explanation is better than one that says so of every stream.
    assert explained("send 80", path, Budget(3)) == {}


def changed(change: Callable[[int], int]) -> Path:
    return each(lambda w: bytes(map(change, w)))


def tabs(data: bytes) -> bytes:
    return data.expandtabs(8)


def parity(byte: int) -> int:
    return byte ^ 0x80 if byte.bit_count() % 2 else byte


#: What some of the faults of the relay do, without a network.
ALIKE: dict[str, Path] = {
    "iac-doubled": each(lambda w: w.replace(b"\xff", b"\xff\xff")),
    "iac-iac-halved": each(lambda w: w.replace(b"\xff\xff", b"\xff")),
    "iac-option-swallowed": each(lambda w: re.sub(b"(?s)\xff[\xfb-\xfe].", b"", w)),
    "crlf-to-lf": each(lambda w: w.replace(b"\r\n", b"\n")),
    "cr-to-lf": each(lambda w: w.replace(b"\r", b"\n")),
    "cr-to-crlf": each(lambda w: w.replace(b"\r", b"\r\n")),
    "cr-nul-to-cr": each(lambda w: w.replace(b"\r\0", b"\r")),
    "cut-at-nul": each(lambda w: w.split(b"\0")[0]),
    "sub-cuts": each(lambda w: w.split(b"\x1a")[0]),
    "tab-expanded": each(tabs),
    "high-bit-stripped": changed(lambda byte: byte & 0x7F),
    "even-parity": changed(parity),
    "utf-8-replaced": each(lambda w: w.decode("utf-8", "replace").encode()),
    "latin-1-to-utf-8": each(lambda w: w.decode("latin-1").encode()),
    "utf-8-bom-eaten": whole(lambda s: s.removeprefix(b"\xef\xbb\xbf")),
    "modem-escape": each(lambda w: w.replace(b"+++", b"")),
    "pair-lost": each(lambda w: w.replace(b"\xb7\x3c", b"\xb7")),
    "lost-at-32768": whole(lambda s: s[:32768] + s[32769:]),
    "multiple-of-1024-lost": each(lambda w: w if len(w) % 1024 else b""),
    "run-of-256": each(lambda w: re.sub(b"(?s)(.)\\1{255,}", lambda m: m[1] * 255, w)),
}


@pytest.mark.parametrize("name", ALIKE)
def test_a_path_is_explained_as_the_relay_s(name: str) -> None:
    (fault,) = (fault for fault in FAULTS if fault.name == name)
    said = explained(fault.shortest, ALIKE[name])
    assert wrong_fields(name, said) == []
