"""Faults of certain bytes: terminals, telnet, text conversion."""

from __future__ import annotations

import re

from tests.probe.faulty_paths.faults import FaultyPath, chunks
from tests.probe.faulty_paths.relay import Relay


class TelnetReceiver(Relay):
    """Reads IAC sequences (RFC 854), across chunks; IAC IAC is FF."""

    state = "data"

    def client_sent(self, data: bytes) -> None:
        passed = bytearray()
        for byte in data:
            if self.state == "data":
                if byte == 0xFF:
                    self.state = "iac"
                else:
                    passed.append(byte)
            elif self.state == "iac":
                self.state = "option" if 0xFB <= byte <= 0xFE else "data"
                if byte == 0xFF:
                    passed.append(byte)
            else:
                self.state = "data"
        self.to_echo(bytes(passed))


class TelnetSplit(Relay):
    """Loses the byte after an IAC that was the last byte of a segment."""

    split = False

    def client_sent(self, data: bytes) -> None:
        if self.split:
            data = data[1:]
        self.split = data.endswith(b"\xff")
        self.to_echo(data)


class FlowControl(Relay):
    """Acts on XOFF: forwards nothing until XON."""

    stopped = False

    def client_sent(self, data: bytes) -> None:
        for byte in data:
            if byte == 0x13:
                self.stopped = True
            elif byte == 0x11:
                self.stopped = False
            elif not self.stopped:
                self.to_echo(bytes([byte]))


class EndOfFile(Relay):
    """A terminal's end of file ends the conversation, in good order."""

    def client_sent(self, data: bytes) -> None:
        text, end, _ = data.partition(b"\x04")
        self.to_echo(text)
        if end:
            self.client.received = lambda data: None
            self.echo.fin()


class Interrupt(Relay):
    """A terminal's interrupt resets the conversation."""

    def client_sent(self, data: bytes) -> None:
        if b"\x03" in data:
            self.reset()
        else:
            self.to_echo(data)


def erase(data: bytes) -> bytes:
    """What a line discipline makes of DEL."""
    line = bytearray()
    for byte in data:
        if byte != 0x7F:
            line.append(byte)
        elif line:
            del line[-1]
    return bytes(line)


def even_parity(data: bytes) -> bytes:
    """Bit 7 is the parity of the other seven."""
    return bytes(b & 0x7F | (bin(b & 0x7F).count("1") & 1) << 7 for b in data)


BYTE_FAULTS = [
    FaultyPath(name, "byte", shortest, relay, frozenset(verdicts.split()))
    for name, shortest, verdicts, relay in [
        (
            "iac-swallowed",
            "send ff",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\xff", b"")),
        ),
        ("iac-doubled", "send ff", "extra", chunks(lambda d: d.replace(b"\xff", b"\xff\xff"))),
        ("iac-telnet-receiver", "send ff", "truncated stalled", TelnetReceiver),
        (
            "iac-iac-halved",
            "send ff ff",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\xff\xff", b"\xff")),
        ),
        (
            "iac-option-swallowed",
            "send ff fb 00",
            "truncated stalled",
            chunks(lambda d: re.sub(rb"\xff[\xfb-\xfe].", b"", d, flags=re.DOTALL)),
        ),
        ("iac-split", "send ff; await; send 00", "truncated stalled", TelnetSplit),
        (
            "crlf-to-lf",
            "send 0d 0a",
            "corrupt truncated stalled",
            chunks(lambda d: d.replace(b"\r\n", b"\n")),
        ),
        ("lf-to-crlf", "send 0a", "corrupt", chunks(lambda d: d.replace(b"\n", b"\r\n"))),
        ("cr-to-lf", "send 0d", "corrupt", chunks(lambda d: d.replace(b"\r", b"\n"))),
        ("cr-to-crlf", "send 0d", "extra", chunks(lambda d: d.replace(b"\r", b"\r\n"))),
        (
            "cr-nul-to-cr",
            "send 0d 00",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\r\0", b"\r")),
        ),
        (
            "cr-iac-lost",
            "send 0d ff",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\r\xff", b"\r")),
        ),
        ("nul-dropped", "send 00", "truncated stalled", chunks(lambda d: d.replace(b"\0", b""))),
        ("cut-at-nul", "send 00", "truncated stalled", chunks(lambda d: d.partition(b"\0")[0])),
        (
            "xon-swallowed",
            "send 11",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\x11", b"")),
        ),
        ("xoff-stops", "send 11", "truncated stalled", FlowControl),
        ("eot-is-eof", "send 04", "truncated", EndOfFile),
        ("sub-cuts", "send 1a", "truncated stalled", chunks(lambda d: d.partition(b"\x1a")[0])),
        ("etx-resets", "send 03", "reset", Interrupt),
        ("del-erases", "send 7f", "truncated stalled", chunks(erase)),
        ("tab-expanded", "send 09", "corrupt", chunks(lambda d: d.expandtabs(8))),
        ("high-bit-stripped", "send 80", "corrupt", chunks(lambda d: bytes(b & 0x7F for b in d))),
        ("even-parity", "send 01", "corrupt", chunks(even_parity)),
        (
            "utf-8-replaced",
            "send 80",
            "corrupt",
            chunks(lambda d: d.decode("utf-8", "replace").encode()),
        ),
        (
            "utf-8-ignored",
            "send 80",
            "truncated stalled",
            chunks(lambda d: d.decode("utf-8", "ignore").encode()),
        ),
        ("latin-1-to-utf-8", "send 80", "corrupt", chunks(lambda d: d.decode("latin-1").encode())),
        (
            "utf-8-bom-eaten",
            "send ef bb bf",
            "truncated stalled",
            chunks(lambda d: d.removeprefix(b"\xef\xbb\xbf")),
        ),
        (
            "modem-escape",
            "send 2b 2b 2b",
            "truncated stalled",
            chunks(lambda d: d.replace(b"+++", b"")),
        ),
        (
            "pair-lost",
            "send b7 3c",
            "truncated stalled",
            chunks(lambda d: d.replace(b"\xb7\x3c", b"\xb7")),
        ),
    ]
]
