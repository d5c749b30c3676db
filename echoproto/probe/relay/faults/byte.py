"""Faults of certain bytes: terminals, telnet, text conversion."""

from __future__ import annotations

import re
from collections.abc import Callable

from echoproto.probe.relay.arguments import REPLACEMENT
from echoproto.probe.relay.fault import Fault, plain, taking
from echoproto.probe.relay.faults.changing import chunks
from echoproto.probe.relay.stage import MakeStage, Place, Stage

__all__ = ["BYTE_FAULTS"]

_XON, _XOFF = 0x11, 0x13


class TelnetReceiver(Stage):
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
        self.forward(data, bytes(passed))


class TelnetSplit(Stage):
    """Loses the byte after an IAC that was the last byte of a segment."""

    split = False

    def client_sent(self, data: bytes) -> None:
        passed = data[1:] if self.split else data
        self.split = passed.endswith(b"\xff")
        self.forward(data, passed)


class FlowControl(Stage):
    """Acts on XOFF and XON as a terminal: they stop and continue what comes back."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.stopped = self.ended = False
        self.kept = bytearray()

    def client_sent(self, data: bytes) -> None:
        passed = data.translate(None, bytes((_XON, _XOFF)))
        last = max(data.rfind(_XON), data.rfind(_XOFF))
        self.forward(data, passed)
        if last >= 0:
            self.stop(data[last] == _XOFF)

    def stop(self, stopped: bool) -> None:
        """Stop what comes back, or continue."""
        if stopped is not self.stopped:
            self.stopped = stopped
            self.connection.down.stop(self, stopped)
            if stopped:
                self.note("stopped at 13 what comes back", action="stopped")
            else:
                self.release()

    def release(self) -> None:
        """Send what was kept."""
        data, self.kept = bytes(self.kept), bytearray()
        self.connection.down.hold_back(-len(data))
        if data:
            self.to_client(data)
        if self.ended:
            self.end_client()

    def server_sent(self, data: bytes) -> None:
        if self.stopped:
            self.kept += data
            self.connection.down.hold_back(len(data))
        else:
            self.to_client(data)

    def server_ended(self) -> None:
        self.ended = True
        if not self.stopped:
            self.end_client()


class EndOfFile(Stage):
    """A terminal's end of file ends the conversation, in good order."""

    def client_sent(self, data: bytes) -> None:
        text, end, _ = data.partition(b"\x04")
        self.forward(data, text)
        if end:
            self.note("took 04 for the end", action="ended")
            self.ignore_client()
            self.end_server()


class Interrupt(Stage):
    """A terminal's interrupt resets the conversation."""

    def client_sent(self, data: bytes) -> None:
        if b"\x03" in data:
            self.reset("reset both sides at 03")
        else:
            self.to_server(data)


def erase(data: bytes) -> bytes:
    """Return what a line discipline makes of DEL."""
    line = bytearray()
    for byte in data:
        if byte != 0x7F:
            line.append(byte)
        elif line:
            del line[-1]
    return bytes(line)


def even_parity(data: bytes) -> bytes:
    """Return bytes whose bit 7 is the parity of the other seven."""
    return data.translate(_EVEN_PARITY)


_EVEN_PARITY = bytes(b & 0x7F | (bin(b & 0x7F).count("1") & 1) << 7 for b in range(256))
_SEVEN_BITS = bytes(b & 0x7F for b in range(256))


def replaced(pair: tuple[bytes, bytes]) -> MakeStage:
    """Return a stage that replaces one byte sequence with another in each segment."""
    old, new = pair
    return chunks(lambda data: data.replace(old, new))


def _replacing(name: str, old: bytes, new: bytes, what: str, seen: str) -> Fault:
    return Fault(name, what, seen, plain(replaced((old, new))))


def _changing(name: str, change: Callable[[bytes], bytes], what: str, seen: str) -> Fault:
    return Fault(name, what, seen, plain(chunks(change)))


BYTE_FAULTS = (
    Fault("replace", "Replaces OLD with NEW in each segment; without NEW, OLD is lost.",
          "A filter that takes OLD for something of its own.",
          taking(REPLACEMENT, replaced), "OLD,NEW"),
    # Telnet.
    _replacing("iac-swallowed", b"\xff", b"", "Loses FF.",
               "A telnet or terminal server, for which FF is IAC (RFC 854)."),
    _replacing("iac-doubled", b"\xff", b"\xff\xff", "Sends FF twice.",
               "A telnet client in front of a server that is none."),
    Fault("telnet-receiver", "Acts on telnet commands: FF and what belongs to it are lost.",
          "A telnet server or console server (ser2net) in front of plain TCP.",
          plain(TelnetReceiver)),
    _replacing("iac-iac-halved", b"\xff\xff", b"\xff", "Turns FF FF into FF.",
               "A telnet server behind a client that is none."),
    _changing("iac-option-swallowed",
              lambda d: re.sub(rb"\xff[\xfb-\xfe].", b"", d, flags=re.DOTALL),
              "Loses FF, FB to FE, and the byte after them.",
              "A console server that negotiates telnet options itself."),
    Fault("iac-split", "Loses the first byte after a segment that ended with FF.",
          "A telnet layer that forgets its state between two reads.", plain(TelnetSplit)),
    _replacing("cr-nul-to-cr", b"\r\0", b"\r", "Turns CR NUL into CR.",
               "A telnet layer (RFC 854)."),
    _replacing("cr-iac-lost", b"\r\xff", b"\r", "Loses FF after CR.",
               "A telnet layer that mixes up two escapes in a row."),
    # Line ends.
    _replacing("crlf-to-lf", b"\r\n", b"\n", "Turns CR LF into LF.",
               "A program that reads in text mode."),
    _replacing("lf-to-crlf", b"\n", b"\r\n", "Turns LF into CR LF.",
               "ncat -C, a terminal with onlcr, a program that writes in text mode."),
    _replacing("cr-to-lf", b"\r", b"\n", "Turns CR into LF.",
               "A terminal with icrnl, such as the pty of ssh -t."),
    _replacing("cr-to-crlf", b"\r", b"\r\n", "Adds LF to CR.", "A telnet client in line mode."),
    # Control bytes.
    _replacing("nul-dropped", b"\0", b"", "Loses NUL.", "A terminal that takes NUL for padding."),
    _changing("cut-at-nul", lambda d: d.partition(b"\0")[0],
              "Loses the rest of a segment from a NUL on.", "A program with C strings."),
    Fault("xonxoff", "Loses 11 and 13 (XON and XOFF); after 13 nothing comes back until 11.",
          "A serial line or a pty with software flow control (ixon).", plain(FlowControl)),
    Fault("eot-is-eof", "Takes 04 for the end: passes FIN on, and drops what follows.",
          "A pty in cooked mode, such as that of ssh -t.", plain(EndOfFile)),
    _changing("sub-cuts", lambda d: d.partition(b"\x1a")[0],
              "Loses the rest of a segment from 1A on.", "A text mode of DOS or Windows."),
    Fault("etx-resets", "Resets at 03.", "A pty in cooked mode, where 03 ends the program.",
          plain(Interrupt)),
    _changing("del-erases", erase, "Takes 7F for an erase: the byte before it is lost too.",
              "A pty in cooked mode."),
    _changing("tab-expanded", lambda d: d.expandtabs(8), "Turns tabs into blanks.",
              "A terminal with tab3 (xtabs)."),
    _replacing("modem-escape", b"+++", b"", "Loses +++.",
               "A modem or a serial adapter, which goes into command mode."),
    # Characters.
    _changing("high-bit-stripped", lambda d: d.translate(_SEVEN_BITS), "Clears bit 7.",
              "A line of seven bits, a terminal with istrip."),
    _changing("even-parity", even_parity, "Makes bit 7 the parity of the others.",
              "A serial line of seven bits and even parity, read as eight bits."),
    _changing("utf-8-replaced", lambda d: d.decode("utf-8", "replace").encode(),
              "Replaces what is not UTF-8 with EF BF BD.",
              "A WebSocket or JSON gateway that takes bytes for text."),
    _changing("utf-8-ignored", lambda d: d.decode("utf-8", "ignore").encode(),
              "Loses what is not UTF-8.", "A script that ignores errors when it decodes."),
    _changing("latin-1-to-utf-8", lambda d: d.decode("latin-1").encode(),
              "Encodes 80 to FF as UTF-8.", "A console program that reads Latin-1."),
    _changing("utf-8-bom-eaten", lambda d: d.removeprefix(b"\xef\xbb\xbf"),
              "Loses EF BB BF at the start of a segment.",
              "A text layer that removes a byte order mark."),
)  # fmt: skip
"""Faults of certain bytes."""
