"""The conversations that known broken paths fail, numbered.

A number never changes its meaning: new cases are added at the end.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from echoproto.probe.script.conversation import Await, Conversation, Reset, Send, Session
from echoproto.probe.script.timed_cases import CROWD, TIMED
from echoproto.probe.script.vocabulary import BOUNDARIES, TOKENS, fill

__all__ = ["Case", "catalogue", "sized"]


@dataclass(frozen=True)
class Case:
    """One conversation that some path is known to fail.

    Attributes:
        number: ``E-001`` and up.
        name: a few words.
        why: one sentence: which kind of device fails it, and how.
        session: what to send.
    """

    number: str
    name: str
    why: str
    session: Session

    @property
    def parallel(self) -> int:
        """How many connections it has open at the same time."""
        return 1 if self.session.sequential else len(self.session.conversations)

    @property
    def round_trips(self) -> int:
        """How many round trips it takes at most, one after the other, on any path.

        Each connection takes one to connect, also where several are open at the same time:
        each connects once the one before it is connected. Each ``await`` takes one, and so does
        the end, unless it is a reset.
        """
        awaits = [
            sum(isinstance(step, Await) for step in c.steps) + (Reset() not in c.steps)
            for c in self.session.conversations
        ]
        return len(awaits) + (sum(awaits) if self.session.sequential else max(awaits))


@functools.cache
def catalogue() -> tuple[Case, ...]:
    """Return all cases, by number."""
    return tuple(
        Case(f"E-{index:03}", name, why, script() if callable(script) else Session.parse(script))
        for index, (name, script, why) in enumerate((*_CASES, *_OTHER_PARTS), 1)
    )


def sized(case: Case, crowd: int | None, most: int) -> Case:
    """Return a case as it is held; the crowd has another size.

    Args:
        case: of the catalogue.
        crowd: how many connections were asked for; None for those of the catalogue.
        most: how many there may be.
    """
    if case.name != CROWD:
        return case
    count = crowd or min(len(case.session.conversations), most)
    return replace(case, session=Session(case.session.conversations[:1] * count))


def _every_pair() -> Session:
    """Return every sequence of two bytes, once.

    It is a de Bruijn sequence by the "prefer largest" rule: each byte doubled, then followed
    by each larger one.
    """
    pairs = bytearray()
    for first in range(256):
        pairs.append(first)
        for second in range(first + 1, 256):
            pairs += bytes((first, second))
    pairs.append(0)
    return Session((Conversation((Send(bytes(pairs)),)),))


def _every_token() -> Session:
    """Return every token as a send of its own."""
    return Session((Conversation(tuple(map(Send, TOKENS))),))


def _every_byte_alone() -> Session:
    """Return every byte as a send of its own."""
    return Session((Conversation(tuple(Send(bytes((byte,))) for byte in range(256))),))


def _each_first(payloads: Iterable[bytes]) -> Session:
    """Return a connection for each payload, one after the other."""
    return Session(tuple(Conversation((Send(p),)) for p in payloads), sequential=True)


def _each_awaited(payloads: Iterable[bytes]) -> Session:
    """Return one connection with each payload as a send of its own, awaited."""
    return Session((Conversation(tuple(s for p in payloads for s in (Send(p), Await()))),))


_T = TypeVar("_T")
_Entry = tuple[str, str | Callable[[], Session], str]
"""The name of a case, its session as text or the function that makes it, and why."""


@dataclass(frozen=True)
class _Series(Generic[_T]):
    """A list that would make one long session, cut into cases of a dozen round trips.

    The first part has the number that the whole series once had. The others are at the end.

    Attributes:
        name: of each part, before its number.
        why: of each part.
        items: what the sessions are made of.
        size: how many of them make a part.
        session: makes the session of a part.
    """

    name: str
    why: str
    items: Sequence[_T]
    size: int
    session: Callable[[Sequence[_T]], Session]

    def part(self, number: int) -> _Entry:
        """Return one part, numbered from 1."""
        items = self.items[(number - 1) * self.size : number * self.size]
        return f"{self.name}, part {number}", lambda: self.session(items), self.why

    def parts(self, first: int, last: int) -> list[_Entry]:
        """Return the parts of these numbers, both included."""
        return [self.part(number) for number in range(first, last + 1)]


# A connection that is awaited by its end takes two round trips, a send that is awaited one.
_CONNECTIONS = 6
_AWAITS = 10

_TOKENS_FIRST = _Series(
    "tokens first",
    "A device that guesses the protocol from the first bytes guesses wrong.",
    TOKENS,
    _CONNECTIONS,
    _each_first,
)
_ZEROS = _Series(
    "zeros of boundary sizes",
    "A block device or a filter takes a buffer of zeros of its own size for padding.",
    BOUNDARIES,
    _AWAITS,
    lambda sizes: _each_awaited(fill(size, b"\0") for size in sizes),
)
_ZEROS_ALONE = _Series(
    "zeros of boundary sizes, alone",
    "A relay that peeks at a full buffer loses the one connection that fills it.",
    BOUNDARIES,
    _CONNECTIONS,
    lambda sizes: _each_first(fill(size, b"\0") for size in sizes),
)
_LINES_ALONE = _Series(
    "lines of boundary sizes, alone",
    "A relay takes a read that fills its buffer exactly for one with more to come.",
    BOUNDARIES,
    _CONNECTIONS,
    lambda sizes: _each_first(fill(size, b"0123456789abcdef\n") for size in sizes),
)


def _hex(text: bytes) -> str:
    return text.hex(" ")


_CASES: tuple[_Entry, ...] = (
    # The simplest things.
    ("nothing at all", "nothing",
     "A proxy that opens its own side only with the first byte never closes an empty connection."),
    ("FIN and nothing else", "fin",
     "A balancer that counts a silent close as an error answers it with RST."),
    ("one byte", "send 00", "A C program that takes NUL for the end of a string loses it."),
    ("one byte, then FIN", "send 00; fin",
     "A server that closes when it has read EOF drops what it has not yet sent back."),
    ("one byte, awaited", "send 00; await",
     "A proxy that waits for a full line or buffer keeps a single byte until the end."),
    ("every byte value", "send 00..ff",
     "Anything that treats the stream as text changes some of the 256."),
    ("every byte value alone", _every_byte_alone,
     "A terminal, a modem or a console server acts on a control byte that comes alone."),
    ("every pair of bytes", _every_pair,
     "A filter with a state machine takes two bytes in a row for a command."),
    ("every token", _every_token,
     "A gateway that knows a protocol finds its words in the middle of a stream."),
    _TOKENS_FIRST.part(1),
    # Telnet (RFC 854).
    ("IAC", "send ff", "A telnet server or terminal server eats FF, the IAC of RFC 854."),
    ("IAC doubled", "send ff ff", "A telnet layer sends FF FF on as one FF."),
    ("IAC in two sends", "send ff; await; send ff",
     "A telnet layer forgets between two reads that it has seen IAC."),
    ("a telnet command", "send 61 ff f4 62", "A telnet layer takes FF F4 for an interrupt."),
    ("a telnet negotiation", "send ff fd 06 61 ff fb 01 62",
     "A console server answers the negotiation itself, and the answer joins the stream."),
    ("IAC before a line end", "send 0d ff 0a", "A telnet layer mixes up two escapes in a row."),
    # Line ends.
    ("CR", "send 0d", "A telnet client in line mode adds NUL or LF after a CR."),
    ("LF", "send 0a", "A text-mode proxy turns LF into CR LF."),
    ("CR LF", "send 0d 0a", "A terminal line (icrnl) or a text mode turns it into one LF."),
    ("CR NUL", "send 0d 00", "A telnet layer drops the NUL after a CR (RFC 854)."),
    ("CR LF in two sends", "send 0d; await; send 0a",
     "A converter of line ends forgets the CR at the end of its buffer."),
    ("mixed line ends", "send 61 0a 62 0d 63 0d 0a 64 0a 0d 65",
     "A filter that settles on one kind of line end rewrites the others."),
    ("a line without an end", "send 61*2000; await",
     "A line-based proxy waits for the end of a line that never comes."),
    ("a dot on a line of its own", "send 0d 0a 2e 0d 0a 61",
     "A mail gateway takes it for the end of a message (RFC 5321)."),
    ("blanks at the end of a line", "send 61 20 20 09 0a 62",
     "A gateway for text strips blanks before a line end."),
    # Control bytes.
    ("NUL", "send 61 00 62 00 00 63", "A program with C strings stops at NUL."),
    ("XON and XOFF", "send 61 13 62 11 63",
     "A serial line with software flow control eats 11 and 13, and stops at 13."),
    ("end of transmission", "send 61 04 62", "A pty in cooked mode takes 04 for end of file."),
    ("Ctrl-Z", "send 61 1a 62", "A DOS or Windows text mode ends the file at 1A."),
    ("Ctrl-C, Ctrl-backslash", "send 61 03 1c 62",
     "A pty in cooked mode turns them into signals."),
    ("delete, backspace, kill", "send 61 62 7f 08 15 17 63",
     "A pty in cooked mode edits the line."),
    ("escape sequences", "send 1b 5b 63 1b 5d 30 3b 07 9b 6d",
     "A terminal in the path answers or swallows them."),
    ("the modem escape", "send 2b 2b 2b; pause 20; send 41 54 48 0d",
     "A modem or a serial adapter goes into command mode at +++."),
    ("the SSH escape", "send 0d 7e 2e 61", "An ssh client with a pty hangs up at CR ~ dot."),
    ("the ZMODEM start", f"send {_hex(b'rz')} 0d {_hex(b'**')} 18 {_hex(b'B00000000000000')} 0d 8a",
     "A terminal server starts a file transfer."),
    ("frames of serial lines", "send 7e 7d 5e 7d 5d c0 db dc db dd 10 02 10 10 10 03",
     "A PPP, SLIP or DLE framing escapes its delimiters and does not unescape them."),
    # Characters.
    ("high bits", "send 80..ff", "A seven-bit line clears the highest bit."),
    ("valid UTF-8", "send c3 a9 e2 82 ac f0 9f 98 80 65 cc 81",
     "A gateway that normalises text changes composed characters."),
    ("a character in two sends", "send f0 9f; await; send 98 80",
     "A gateway decodes each read by itself and breaks the character at the boundary."),
    ("broken UTF-8", "send c3 28 a9 c0 80 ed a0 80 f4 90 80 80 ff",
     "A WebSocket or JSON gateway replaces invalid sequences with EF BF BD."),
    ("a byte order mark", "send ef bb bf 61 ff fe 62 fe ff",
     "A text layer removes a byte order mark."),
    ("escapes of text", f"send {_hex(b'%00%41%%s' + bytes((92,)) + b'n&amp;<=3D')}",
     "A web or mail gateway decodes an escape, or escapes it again."),
    # First bytes that look like a protocol.
    ("PROXY v1 as data", f"send {_hex(b'PROXY TCP4 192.0.2.1 192.0.2.2 1 2')} 0d 0a 61",
     "A server behind a balancer takes a client's own PROXY line for the balancer's."),
    ("PROXY v2 as data", "send 0d 0a 0d 0a 00 0d 0a 51 55 49 54 0a 20 00 00 00 61",
     "A server behind a balancer takes a client's own PROXY header for the balancer's."),
    ("the first byte of PROXY", "send 50; await; send 52 4f 58 59",
     "A server that looks for a PROXY header waits for its end, and then loses it."),
    ("an HTTP request", f"send {_hex(b'GET / HTTP/1.1')} 0d 0a {_hex(b'Host: a')} 0d 0a 0d 0a",
     "A transparent HTTP proxy answers in place of the server."),
    ("an HTTP CONNECT", f"send {_hex(b'CONNECT a:1 HTTP/1.1')} 0d 0a 0d 0a",
     "A firewall with a web proxy opens another connection."),
    ("the HTTP/2 preface",
     f"send {_hex(b'PRI * HTTP/2.0')} 0d 0a 0d 0a {_hex(b'SM')} 0d 0a 0d 0a",
     "A balancer that detects HTTP/2 answers with its settings."),
    ("a TLS hello", "send 16 03 01 00 05 01 00 00 01 00",
     "A device that inspects TLS drops a hello that it cannot parse."),
    ("an SSH greeting", f"send {_hex(b'SSH-2.0-x')} 0d 0a",
     "A firewall that forbids tunnels aborts what looks like SSH."),
    ("SMTP words", f"send {_hex(b'EHLO a')} 0d 0a {_hex(b'STARTTLS')} 0d 0a",
     "A firewall with a mail fixup overwrites commands it does not know with X."),
    ("FTP addresses", f"send {_hex(b'PORT 192,0,2,1,4,1')} 0d 0a",
     "A NAT helper for FTP rewrites addresses, and with them the length."),
    ("SIP words", f"send {_hex(b'INVITE sip:a@192.0.2.1 SIP/2.0')} 0d 0a 0d 0a",
     "A NAT helper for SIP rewrites addresses."),
    ("a SOCKS greeting", "send 05 01 00; await; send 04 01 00 50 00 00 00 01 00",
     "A proxy on the wrong port takes the first bytes for its own protocol."),
    ("a WebSocket close", "send 88 02 03 e8 61",
     "A tunnel over WebSocket that does not mask its payload acts on it."),
    ("a gzip header", "send 1f 8b 08 00*7", "A caching gateway unpacks what it takes for gzip."),
    ("a silent start", "pause 200; send 61",
     "A device that must see the first bytes to choose a server gives up waiting for them."),
    # Sizes.
    ("around 255", "send 00*254; send 00*255; send 00*256; send 00*257",
     "A length kept in one byte overflows."),
    ("around one segment", "send 00*1446; send 00*1448; send 00*1460; send 00*1461; send 00*1500",
     "A tunnel with a smaller MTU that drops the ICMP message loses full segments."),
    ("tunnels' segments", "send 00*1146; send 00*1220; send 00*1280; send 00*1360; send 00*1394",
     "IPsec, PPPoE and VXLAN leave less room in a segment than the ends believe."),
    ("around a page", "send 00*4094; send 00*4095; send 00*4096; send 00*4097; send 00*4098",
     "A relay with a buffer of 4096 loses a byte when it is exactly full."),
    ("around 8 KiB", "send 00*8190; send 00*8191; send 00*8192; send 00*8193; send 00*8960",
     "A stdio buffer of 8 KiB, or a jumbo frame, is exactly full."),
    ("around 16 KiB", "send 00*16383; send 00*16384; send 00*16385",
     "A TLS record is full at 16384 bytes (RFC 8446), and an offload engine cuts it wrong."),
    ("around 64 KiB", "send 00*65535; send 00*65536; send 00*65537",
     "A length kept in two bytes overflows, or a window without scaling is full."),
    ("exactly 64 KiB in one connection", "send 00*65535; await; send 01; await; send 02",
     "A 16-bit counter of bytes overflows."),
    ("a run of 00", "send 00*65536", "A compressing WAN accelerator fails on long runs."),
    ("a run of FF", "send ff*65536",
     "An escaping layer doubles every byte, and its buffer is too small for that."),
    # A write is cut short where the kernel's buffer is full. On Ethernet, Linux begins with a send
    # buffer of 85 KiB, and lets it grow to 4 MiB (tcp_wmem, tcp(7)), which it has on loopback from
    # the start. A megabyte exceeds the first, four exceed the second.
    ("a megabyte", "send (00..fa)*4178",
     "A relay that ignores a short write loses what the kernel did not take."),
    ("four megabytes", "send (00..fa)*16711",
     "A relay without backpressure runs out of its buffer."),
    # Chunks.
    ("one byte at a time", "; ".join(["send 61"] * 100),
     "A relay that treats each read as a message adds, drops or joins some."),
    ("ping-pong", "; ".join(["send 61; await"] * 10),
     "A relay loses a wake-up between two small writes."),
    ("two quick small writes", "send 61; send 62",
     "A relay keeps only the second of two writes that arrive before it reads."),
    ("many small lines", "; ".join(["send 61*20 0a"] * 100),
     "A relay with a fixed number of slots drops what comes in a burst."),
    ("big, then small", "send 61*100000; send 62",
     "A relay with separate paths for big and small writes reorders them."),
    ("a change of pace", "send 61*5000; await; send 62; await; send 63*5000; await; send 64",
     "A relay that resizes its buffer keeps old bytes in it."),
    # Time.
    ("a pause in the middle", "send 61; await; pause 250; send 62",
     "A NAT or a balancer with a short idle timeout forgets the connection."),
    # A tenth of a second: 750 kB, of which a relay that sets its buffers itself (often 64 KiB)
    # holds back most for as long as a short timeout takes.
    ("a slow reader", "slow 8000000; send (00..fa)*3000",
     "A relay drops what its client does not take at once."),
    ("a very slow start of reading", "slow 200000; send 61*20000; await",
     "A relay closes on a client whose window stays small."),
    # Closing.
    ("data right before FIN", "send (00..fa)*400; fin",
     "A relay that closes both sides at the first FIN cuts off what is on its way back."),
    # More than the two buffers of a new connection on Ethernet, 85 KiB and 128 KiB: a relay still
    # holds some of it when the FIN comes.
    ("a lot right before FIN", "send (00..fa)*1200; fin",
     "A relay waits at FIN for a buffer to drain, but not for the next one."),
    ("FIN after all is back", "send 61; await; fin",
     "A relay that has lost the other side's address by then never passes FIN on."),
    ("FIN, then silence", "send 61; fin; pause 100",
     "A stateful filter forgets a half-closed connection at once."),
    ("reset at once", "reset", "An accept loop fails on a connection that is gone when accepted."),
    ("reset with data on its way", "send 61*100000; reset",
     "A relay that gets an error from its client kills its worker."),
    # Several connections.
    ("one idle, one active", "nothing | send 61; await",
     "A server that handles one connection at a time makes the second wait."),
    ("marked payloads", "send 41*100; await | send 42*100; await | send 43*100; await",
     "A relay with one buffer for all mixes up its connections."),
    ("a reset beside another", "send 61; await; reset | pause 20; send 62; await; pause 5; send 63",
     "On a reset, a relay closes the wrong socket or exits."),
    ("a FIN beside another", "send 61; fin | pause 20; send 62; await",
     "A relay closes the wrong socket at the end of another connection."),
    # More than a relay reads at once (64 KiB), and than it holds in buffers that it sets itself.
    ("a slow reader beside another", "slow 8000000; send 61*300000 | send 62; await",
     "A relay that blocks on one slow client blocks all."),
    ("a reset, then another", "send 61*1000; reset then send 62 then nothing",
     "A pool passes the buffer of a dead connection to the next one."),
    ("eight at once", " | ".join(["send 61; await"] * 8),
     "A server with a fixed number of workers makes the next one wait."),
    # It takes more than a dozen round trips, because so many at once are the point.
    ("thirty-two at once", " | ".join(["send 61; await"] * 32),
     "A per-client connection limit resets or ignores the others."),
    # Sizes, each by itself.
    _ZEROS.part(1),
    _ZEROS_ALONE.part(1),
    _LINES_ALONE.part(1),
    # What takes longer, or more.
    ("silences of over half a second", "pause 650; send 61 | send 62; await; pause 650; send 63",
     "A device with a short idle timeout forgets, mutes or resets the connection."),
    # The relay's send buffer takes 4 MiB, and 0.3 s of reading 20 MB/s is time enough to fill it:
    # what is left, 1.8 MB less what is read meanwhile, the relay has to hold or to refuse.
    ("a slow reader of more than the kernels hold", "slow 20000000; send (00..fa)*24000",
     "A relay has no limit, or a wrong one, for what a slow reader has not taken yet."),
)  # fmt: skip

# Added as they are: a number never changes its meaning, so a longer series gets its new parts
# after these.
_OTHER_PARTS: tuple[_Entry, ...] = (
    *_TOKENS_FIRST.parts(2, 22),
    *_ZEROS.parts(2, 9),
    *_ZEROS_ALONE.parts(2, 14),
    *_LINES_ALONE.parts(2, 14),
    *TIMED,
)
