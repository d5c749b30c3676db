"""Byte paths with known faults: those of the product, and what the probe has to find of each.

``with Path(fault.relay) as path:`` listens on ``path.port``; ``Path()`` is a correct one.
"""

from tests.probe.faulty_paths.faults import FaultyPath, named
from tests.probe.faulty_paths.relay import Path, Relay

__all__ = ["DYING", "FAULTS", "NOT_AN_ECHO", "FaultyPath", "Path", "Relay"]

# The name, the fault as --fault takes it (nothing: the same as the name), the shortest
# conversation, and the right verdicts.
LOST = "truncated stalled"
HANGS = "stalled truncated never-closed"
_BYTE = [
    ("iac-swallowed", "", "send ff", LOST),
    ("iac-doubled", "", "send ff", "extra"),
    ("iac-telnet-receiver", "telnet-receiver", "send ff", LOST),
    ("iac-iac-halved", "", "send ff ff", LOST),
    ("iac-option-swallowed", "", "send ff fb 00", LOST),
    ("iac-split", "", "send ff; await; send 00", LOST),
    ("crlf-to-lf", "", "send 0d 0a", "corrupt truncated stalled"),
    ("lf-to-crlf", "", "send 0a", "corrupt"),
    ("cr-to-lf", "", "send 0d", "corrupt"),
    ("cr-to-crlf", "", "send 0d", "extra"),
    ("cr-nul-to-cr", "", "send 0d 00", LOST),
    ("cr-iac-lost", "", "send 0d ff", LOST),
    ("nul-dropped", "", "send 00", LOST),
    ("cut-at-nul", "", "send 00", LOST),
    ("xon-swallowed", "replace=11,", "send 11", LOST),
    ("xoff-stops", "xonxoff", "send 11", LOST),
    ("eot-is-eof", "", "send 04", "truncated"),
    ("sub-cuts", "", "send 1a", LOST),
    ("etx-resets", "", "send 03", "reset"),
    ("del-erases", "", "send 7f", LOST),
    ("tab-expanded", "", "send 09", "corrupt"),
    ("high-bit-stripped", "", "send 80", "corrupt"),
    ("even-parity", "", "send 01", "corrupt"),
    ("utf-8-replaced", "", "send 80", "corrupt"),
    ("utf-8-ignored", "", "send 80", LOST),
    ("latin-1-to-utf-8", "", "send 80", "corrupt"),
    ("utf-8-bom-eaten", "", "send ef bb bf", LOST),
    ("modem-escape", "", "send 2b 2b 2b", LOST),
    ("pair-lost", "replace=b73c,b7", "send b7 3c", LOST),
]
_POSITION = [
    ("first-byte-flipped", "flip-at=0", "send 00", "corrupt"),
    ("first-byte-eaten", "drop-at=0", "send 00", LOST),
    ("flipped-at-100", "flip-at=100", "send 00*101", "corrupt"),
    ("flipped-at-4095", "flip-at=4095", "send 00*4096", "corrupt"),
    ("flipped-at-4096", "flip-at=4Ki", "send 00*4097", "corrupt"),
    ("flipped-at-65535", "flip-at=65535", "send 00*65536", "corrupt"),
    ("lost-at-32768", "drop-at=32Ki", "send 00*32769", LOST),
    ("every-1000th-flipped", "flip-every=1000", "send 00*1000", "corrupt"),
    ("last-byte-held", "", "send 00", LOST),
    ("last-byte-lost-at-fin", "", "send 00; fin", "truncated"),
    ("proxy-v1-eaten", "", "send 50 52 4f 58 59 20", LOST),
    ("proxy-v2-mute", "", "send 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a", HANGS),
    ("http-answered", "", "send 47 45 54 20", "corrupt extra"),
    ("tls-reset", "", "send 16 03 01", "reset"),
    ("ssh-mute", "", "send 53 53 48 2d", HANGS),
]
_SIZE = [
    ("segment-of-1460-short", "segment-short=1460", "send 00*1460", LOST),
    ("4097-zeros", "zeros-short=4097", "send 00*4097", LOST),
    ("cut-at-8192", "segment-cut=8Ki", "send 00*8193", LOST),
    ("multiple-of-1024-lost", "multiple-lost=1024", "send 00*1024", LOST),
    ("one-byte-segments-lost", "one-byte-lost", "send 00", LOST),
    ("stalls-at-65536", "stall-at=65535", "send 00*65536", HANGS),
    ("long-segment-swapped", "segment-swapped=1448", "send 00*1448 01", "corrupt"),
    ("run-of-256", "run-length", "send 00*256", LOST),
    ("second-segment-doubled", "segment-doubled=2", "send 00; await; send 00", "extra"),
    ("second-segment-shortened", "later-short", "send 00; await; send 00 00", LOST),
]
_CLOSE = [
    ("end-not-passed-on", "", "fin", "never-closed"),
    ("end-resets", "", "fin", "reset"),
    ("end-closes-both", "close-at-fin", "send 00; fin", "truncated reset"),
    ("bulk-cut-at-end", "bulk-cut-at-end=32Ki", "send 00*32769; fin", "truncated"),
    ("closes-unread", "closes-unread=10000", "send 00*10001; await; send 00",
     "truncated reset stalled"),
    ("one-answer", "", "send 00; await; send 00", "truncated reset"),
    ("empty-resets", "", "fin", "reset"),
    ("trailer", "", "fin", "extra"),
    ("lingers-after-bulk", "lingers-after=5000", "send 00*5001; fin", "never-closed"),
]  # fmt: skip
_TIMING = [
    ("quick-writes-overwritten", "", "send 00; pause 1; send 00", LOST),
    ("mute-after-30-ms", "idle-mute=30ms", "pause 30; send 00", HANGS),
    ("reset-after-100-ms", "idle-reset=100ms", "pause 100; send 00", "reset"),
    ("byte-lost-after-50-ms", "idle-loses=50ms", "pause 50; send 00", LOST),
    ("reset-when-idle", "idle-cut=150ms", "pause 160", "reset"),
    ("silent-start", "silent-start=60ms", "pause 70", "extra"),
    ("slow-reader-loses", "slow-reader-loses=4096", "slow 100000; send 00*400000", LOST),
    ("slow-reader-reset", "", "slow 8000000; send 00*650000", "reset truncated"),
    ("late-reader-loses", "slow-reader-loses", "slow 20000000; send 00*6024000",
     "truncated stalled corrupt"),
    ("reset-after-500-ms", "idle-reset=500ms", "pause 550; send 00", "reset"),
    ("policer", "", "send 00*100001", LOST),
]  # fmt: skip
_APART = [
    ("cut-after-fin", "cut-after-fin=300ms", "hold 330; send 00*200000; fin", "truncated reset"),
    ("dropped-at-end", "drops-at-end=100ms", "hold 220; send 00*200000; fin", "truncated reset"),
    ("write-timeout", "write-timeout=300ms", "hold 330; send 00*200000", "reset truncated"),
    ("closed-after-900-ms", "idle-close=900ms", "pause 1000; send 00", "truncated reset"),
    ("cut-after-900-ms", "idle-cut=900ms", "pause 1000", "reset"),
    ("mute-after-900-ms", "idle-mute=900ms", "pause 1000; send 00", HANGS),
]  # fmt: skip
_BETWEEN = [
    ("answers-crossed", "", "nothing | send 00", "cross-talk extra corrupt truncated stalled"),
    ("answers-copied", "", "nothing | send 00", "cross-talk extra corrupt"),
    ("reset-kills-all", "", "nothing | reset", "reset"),
    ("one-at-a-time", "", "nothing | send 00", "stalled never-closed"),
    ("at-most-one", "at-most=1", "nothing | nothing", "reset refused"),
    ("at-most-two", "at-most=2", "nothing | nothing | nothing", "reset refused"),
    ("at-most-fifty", "at-most=50", " | ".join(["send 00; await"] * 51), "reset refused"),
    ("leftover-after-reset", "", "reset then nothing", "extra cross-talk corrupt"),
    ("every-7th-refused", "nth-reset=7", "nothing", "reset refused"),
    ("every-20th-mute", "nth-mute=20", "send 00", HANGS),
]
_FLOOD = [
    ("flood-after-ff", "flood-after=ff", "send ff", "extra corrupt"),
    ("greeting-of-every-5th", "greeting=5", "nothing", "extra corrupt"),
]
_DEATH = [
    ("crashes-on-bulk", "crash-on=3000", "send 00*3001", "reset"),
]
_RESTART = [
    ("restarts-on-ff", "restart-on=ff,100ms", "send ff", "reset"),
]
_FLAKY = [
    ("iac-one-in-2", "iac-swallowed@50%", "send ff", LOST),
    ("iac-one-in-10", "iac-swallowed@10%", "send ff", LOST),
    ("flip-one-in-2", "flip-at=4095@50%", "send 00*4096", "corrupt"),
    ("flip-one-in-10", "flip-at=4095@10%", "send 00*4096", "corrupt"),
    ("end-one-in-2", "close-at-fin@50%", "send 00; fin", "truncated reset"),
    ("end-one-in-10", "close-at-fin@10%", "send 00; fin", "truncated reset"),
]

FAULTS: list[FaultyPath] = [
    FaultyPath(name, kind, shortest, named(fault or name), frozenset(verdicts.split()))
    for kind, paths in {
        "byte": _BYTE,
        "position": _POSITION,
        "size": _SIZE,
        "close": _CLOSE,
        "timing": _TIMING,
        "apart": _APART,
        "between": _BETWEEN,
        "flood": _FLOOD,
        "death": _DEATH,
        "restart": _RESTART,
        "flaky": _FLAKY,
    }.items()
    for name, fault, shortest, verdicts in paths
]

#: After some connections nothing works any more: there is nothing to shrink.
DYING = {"dies-in-the-middle": named("dies-at=61"), "hangs-for-ever": named("mute-from=61")}

#: The preflight must report these: they cannot be fuzzed.
NOT_AN_ECHO = {
    "greeting": named("greeting"),
    "flood": named("flood"),
    "dead": named("dies-at=1"),
    "hanging": named("mute-from=1"),
}
