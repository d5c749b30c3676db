"""What is true of each faulty path, in the fields of an explanation.

A field that is not here must not be in the explanation. A set holds alternatives that are all
true of the path; None among them allows the field to be left out.
"""

from __future__ import annotations

from typing import Any

__all__ = ["COMPARED", "EXPECTED", "wrong_fields"]

COMPARED = (
    "effect", "bytes", "becomes", "size", "position", "needs", "pause_ms", "hold_ms",
    "connections", "every",
)  # fmt: skip
"""The fields that are compared; the others are figures of one run."""

HIGH = [f"{value:02x}" for value in range(0x80, 0x100)]
ODD = [f"{value:02x}" for value in range(0x80) if value.bit_count() % 2]
# The eighth bit of these is wrong: set where it must not be, or the other way round.
PARITY = ODD + [f"{value:02x}" for value in range(0x80, 0x100) if value.bit_count() % 2]

ANYWHERE = {"position": "anywhere"}
FIN = {"needs": ["fin"]}
WRITES = {"needs": ["several-writes"]}
CONNECTIONS = {"needs": ["several-connections"]}
PROXY_V2 = "0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a"


class OneOf(tuple[Any, ...]):
    """Alternatives."""


def one_of(*values: Any) -> OneOf:
    return OneOf(values)


def size(unit: str, **limits: int) -> dict[str, Any]:
    return {"size": {"unit": unit, **limits}}


def bytes_(effect: str, *names: str, **becomes: str) -> dict[str, Any]:
    """A fault of some bytes, anywhere in the stream."""
    return {"effect": effect, "bytes": list(names), "position": "anywhere"}


def deleted(*names: str) -> dict[str, Any]:
    return {**bytes_("deleted", *names), "becomes": dict.fromkeys(names, "")}


def turned(effect: str, before: str, after: str) -> dict[str, Any]:
    return {**bytes_(effect, before), "becomes": {before: after}}


#: The path counts from the moment when its buffers are full, which is later than this side's.
NEAR_300 = one_of(*range(280, 331))

EXPECTED: dict[str, dict[str, Any]] = {
    # Bytes.
    "iac-swallowed": deleted("ff"),
    "iac-doubled": turned("duplicated", "ff", "ff ff"),
    "iac-telnet-receiver": deleted("ff"),
    "iac-iac-halved": turned("deleted", "ff ff", "ff"),
    # Any third byte, of which shrinking leaves 00.
    "iac-option-swallowed": deleted("ff fb 00", "ff fc 00", "ff fd 00", "ff fe 00"),
    "iac-split": {"effect": "deleted", "bytes": ["ff"], "position": "border", **WRITES},
    "crlf-to-lf": turned("deleted", "0d 0a", "0a"),
    "lf-to-crlf": turned("inserted", "0a", "0d 0a"),
    "cr-to-lf": turned("replaced", "0d", "0a"),
    "cr-to-crlf": turned("inserted", "0d", "0d 0a"),
    "cr-nul-to-cr": turned("deleted", "0d 00", "0d"),
    "cr-iac-lost": turned("deleted", "0d ff", "0d"),
    "nul-dropped": deleted("00"),
    "cut-at-nul": bytes_("truncated", "00"),
    "xon-swallowed": deleted("11"),
    "xoff-stops": {**deleted("11", "13"), "becomes": {"11": ""}},
    "eot-is-eof": bytes_("truncated", "04"),
    "sub-cuts": bytes_("truncated", "1a"),
    "etx-resets": bytes_("reset", "03"),
    "del-erases": deleted("7f"),
    # How many blanks depends on the column.
    "tab-expanded": bytes_("replaced", "09"),
    "high-bit-stripped": {
        **bytes_("replaced", *HIGH),
        "becomes": {name: f"{int(name, 16) & 0x7F:02x}" for name in HIGH},
    },
    "even-parity": {
        **bytes_("replaced", *PARITY),
        "becomes": {name: f"{int(name, 16) ^ 0x80:02x}" for name in PARITY},
    },
    "utf-8-replaced": {
        **bytes_("replaced", *HIGH),
        "becomes": dict.fromkeys(HIGH, "ef bf bd"),
    },
    "utf-8-ignored": deleted(*HIGH),
    "latin-1-to-utf-8": {
        **bytes_("replaced", *HIGH),
        "becomes": {
            name: bytes.fromhex(name).decode("latin-1").encode().hex(" ") for name in HIGH
        },
    },
    "utf-8-bom-eaten": {**deleted("ef bb bf"), "position": "start"},
    "modem-escape": deleted("2b 2b 2b"),
    "pair-lost": turned("deleted", "b7 3c", "b7"),
    # Positions.
    "first-byte-flipped": {"effect": "replaced", "position": "start"},
    "first-byte-eaten": {"effect": "deleted", "position": "start"},
    "flipped-at-100": {"effect": "replaced", "position": {"offset": 100}},
    "flipped-at-4095": {"effect": "replaced", "position": {"offset": 4095}},
    "flipped-at-4096": {"effect": "replaced", "position": {"offset": 4096}},
    "flipped-at-65535": {"effect": "replaced", "position": {"offset": 65535}},
    "lost-at-32768": {"effect": "deleted", "position": {"offset": 32768}},
    "every-1000th-flipped": {"effect": "replaced", **size("connection", multiple_of=1000)},
    "last-byte-held": {"effect": "withheld", "position": "end"},
    "last-byte-lost-at-fin": {"effect": "truncated", "position": "end", **FIN},
    "proxy-v1-eaten": {**deleted("50 52 4f 58 59 20"), "position": "start"},
    "proxy-v2-mute": {"effect": "withheld", "bytes": [PROXY_V2], "position": "start"},
    "http-answered": {"effect": "replaced", "bytes": ["47 45 54 20"], "position": "start"},
    "tls-reset": {"effect": "reset", "bytes": ["16 03 01"], "position": "start"},
    "ssh-mute": {"effect": "withheld", "bytes": ["53 53 48 2d"], "position": "start"},
    # Sizes.
    "segment-of-1460-short": {
        "effect": "deleted", "position": "end", **size("write", least=1460, most=1460),
    },
    "4097-zeros": {"effect": "deleted", "bytes": ["00"], **size("write", least=4097, most=4097)},
    "cut-at-8192": {"effect": "truncated", **size("write", least=8193)},
    "multiple-of-1024-lost": {
        "effect": "deleted", **size("write", least=1024, multiple_of=1024),
    },
    "one-byte-segments-lost": {"effect": "deleted", **size("write", least=1, most=1)},
    "stalls-at-65536": {"effect": "withheld", **size("connection", least=65536)},
    "long-segment-swapped": {"effect": "reordered", **size("write", least=1449)},
    "run-of-256": {"effect": "truncated", **size("run", least=256)},
    "second-segment-doubled": {"effect": "duplicated", **WRITES},
    "second-segment-shortened": {
        "effect": "deleted", "position": "end", **WRITES, **size("write", least=2),
    },
    # Closing.
    "end-not-passed-on": {"effect": "not-closed", **FIN},
    "end-resets": {"effect": "reset", **FIN},
    "end-closes-both": {"effect": one_of("truncated", "reset"), **FIN},
    "bulk-cut-at-end": {"effect": "truncated", **FIN, **size("in-flight", least=32769)},
    "closes-unread": {
        "effect": one_of("truncated", "reset"), **WRITES, **size("connection", least=10001),
    },
    "one-answer": {"effect": one_of("truncated", "reset"), **WRITES},
    "empty-resets": {"effect": "reset", **FIN, **size("connection", most=0)},
    "trailer": {"effect": "inserted", "position": "end", **FIN},
    "lingers-after-bulk": {"effect": "not-closed", **FIN, **size("connection", least=5001)},
    # Time.
    "quick-writes-overwritten": {
        "effect": "deleted", **WRITES,
        # A race: where the two writes are read as one, nothing is lost.
        "size": one_of(None, {"unit": "write", "least": 1, "most": 1000}),
    },
    "mute-after-30-ms": {"effect": "withheld", "needs": ["pause"], "pause_ms": 30},
    "reset-after-100-ms": {"effect": "reset", "needs": ["pause"], "pause_ms": 100},
    "byte-lost-after-50-ms": {
        "effect": "deleted", "position": "start", "needs": ["pause"], "pause_ms": 50,
    },
    "reset-when-idle": {"effect": "reset", "needs": ["pause"], "pause_ms": 150},
    "silent-start": {
        "effect": "inserted", "position": "start", "needs": ["pause"], "pause_ms": 60,
        **size("connection", most=0),
    },
    # What the kernels' buffers hold decides how much it takes, and whether a quick reader loses
    # anything.
    "slow-reader-loses": {
        "effect": one_of("truncated", "deleted"), "needs": one_of(None, ["slow-reader"], ["hold"]),
        "hold_ms": one_of(None, *range(1, 700)), "size": "in-flight",
    },
    "slow-reader-reset": {
        "effect": "reset", "needs": one_of(None, ["slow-reader"], ["hold"]),
        "hold_ms": one_of(None, 50), "size": "in-flight",
    },
    "late-reader-loses": {
        "effect": one_of("truncated", "deleted"), "needs": one_of(["slow-reader"], ["hold"]),
        "hold_ms": one_of(None, *range(1, 700)), "size": "in-flight",
    },
    "reset-after-500-ms": {"effect": "reset", "needs": ["pause"], "pause_ms": 500},
    "policer": {
        "effect": one_of("truncated", "deleted"), **size("in-flight", least=100_001),
    },
    # What waits by itself. What the kernels' buffers hold decides how much it takes.
    "cut-after-fin": {
        "effect": one_of("truncated", "reset"), "needs": ["fin", "hold"],
        "hold_ms": NEAR_300, "size": "in-flight",
    },
    "dropped-at-end": {
        "effect": one_of("truncated", "reset"), "needs": ["fin", "hold"],
        "hold_ms": one_of(*range(90, 121)), "size": "in-flight",
    },
    "write-timeout": {
        "effect": "reset", "needs": ["hold"], "hold_ms": NEAR_300, "size": "in-flight",
    },
    "closed-after-900-ms": {
        "effect": one_of("truncated", "reset"), "needs": ["pause"], "pause_ms": 900,
    },
    "cut-after-900-ms": {"effect": "reset", "needs": ["pause"], "pause_ms": 900},
    "mute-after-900-ms": {"effect": "withheld", "needs": ["pause"], "pause_ms": 900},
    # Between connections.
    "answers-crossed": {"effect": "mixed", **CONNECTIONS},
    "answers-copied": {"effect": "mixed", **CONNECTIONS},
    "reset-kills-all": {"effect": "reset", "needs": ["reset", "several-connections"]},
    "one-at-a-time": {"effect": one_of("withheld", "not-closed"), **CONNECTIONS},
    "at-most-one": {"effect": one_of("reset", "refused"), **CONNECTIONS},
    "at-most-two": {"effect": one_of("reset", "refused"), **CONNECTIONS, "connections": 3},
    "at-most-fifty": {
        "effect": one_of("reset", "refused"), **CONNECTIONS, "connections": 51,
    },
    "leftover-after-reset": {
        "effect": "inserted", "needs": ["fin", "reset", "several-connections"],
        "position": one_of(None, "end"),
    },
    "every-7th-refused": {"effect": one_of("reset", "refused"), "every": 7},
    "every-20th-mute": {"effect": "withheld", "every": 20},
    # Floods and deaths.
    "flood-after-ff": bytes_("inserted", "ff"),
    "greeting-of-every-5th": {"effect": "inserted", "position": "start", "every": 5},
    "crashes-on-bulk": {"effect": "reset", **size("write", least=3001)},
    "restarts-on-ff": bytes_("reset", "ff"),
    # Now and then.
    "iac-one-in-2": deleted("ff"),
    "iac-one-in-10": deleted("ff"),
    "flip-one-in-2": {"effect": "replaced", "position": {"offset": 4095}},
    "flip-one-in-10": {"effect": "replaced", "position": {"offset": 4095}},
    "end-one-in-2": {"effect": one_of("truncated", "reset"), **FIN},
    "end-one-in-10": {"effect": one_of("truncated", "reset"), **FIN},
}  # fmt: skip


def wrong_fields(name: str, explanation: dict[str, Any]) -> list[str]:
    """Return what an explanation says of a faulty path that is not so, one line a field."""
    wrong = []
    for field in COMPARED:
        expected, said = EXPECTED[name].get(field), explanation.get(field)
        allowed = expected if isinstance(expected, OneOf) else (expected,)
        if field == "size" and isinstance(expected, str) and said is not None:
            said = said["unit"]
        if said not in allowed:
            wrong.append(f"{field}: {said} instead of {' or '.join(map(str, allowed))}")
    return wrong
