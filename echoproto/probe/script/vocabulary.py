"""The byte sequences and the sizes at which devices on a path are known to go wrong.

The catalogue and the strategies are built from them. Nothing here needs Hypothesis.
"""

from __future__ import annotations

__all__ = ["BOUNDARIES", "COMMON_TOKENS", "COUNTING", "TOKENS", "fill"]

TOKENS: tuple[bytes, ...] = (
    # Telnet: IAC alone, doubled, in front of a command, and in the middle of a line end.
    b"\xff", b"\xff\xff", b"\xff\xf4", b"\xff\xf4\xff\xfd\x06", b"\xff\xfb\x01", b"\xff\xf0",
    b"\r\xff", b"\xff\xec",
    # Line ends, whole and in parts, and what text modes make of them.
    b"\r", b"\n", b"\r\n", b"\n\r", b"\r\0", b"\r\r\n", b"\n\n", b"\r\n\r\n", b"\n.\n",
    b"\r\n.\r\n", b"\n..\n",
    b"\nFrom ", b" \n", b"\t", b"        ", b"\v", b"\f", b"\x85", b"\xe2\x80\xa8",
    # Ends of strings and of files, flow control, terminals.
    b"\0", b"\0\0", b"\x03", b"\x04", b"\x1a", b"\x11", b"\x13", b"\x13\x11", b"\x7f", b"\b",
    b"\x15", b"\x17", b"\x1c", b"\x16", b"\x1b", b"\x1b[c", b"\x1b]0;", b"\x9b", b"\x07",
    b"\x18\x18\x18\x18\x18", b"**\x18B00",
    # Escapes and frames of serial lines and consoles.
    b"+++", b"+++ATH\r", b"~.", b"\r~.", b"~~", b"\x10", b"\x10\x03", b"\x10\x10", b"\x02", b"\xc0",
    b"\xdb\xdc", b"\xdb", b"\x7e", b"\x7d", b"\x7d\x5e", b"\x1d", b"\x01",
    # Escapes of text.
    b"\\", b"\\n", b"\\0", b"%", b"%00", b"%s%n", b"&amp;", b"<", b"'", b'"', b"$", b"=", b"=3D",
    # High bits, and UTF-8 whole and broken.
    b"\x80", b"\xa0", b"\xfe", b"\xc3\xa9", b"\xc3", b"\xa9", b"\xc0\x80", b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80", b"\xf0\x9f\x98\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff",
    b"e\xcc\x81", b"\xef\xbf\xbd",
    # First bytes that look like another protocol.
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", b"PROXY UNKNOWN\r\n", b"PROXY ",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", b"\r\n\r\n\0\r\nQUIT\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"POST / HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\0\x05\x01\0\0\x01\0", b"\x16\x03\x01", b"\x17\x03\x03",
    b"\x15\x03\x03\0\x02\x01\0",
    b"SSH-2.0-x\r\n", b"EHLO a\r\n", b"STARTTLS\r\n", b"QUIT\r\n", b"USER a\r\n",
    b"PORT 1,2,3,4,5,6\r\n",
    b"EPRT |1|192.0.2.1|1|\r\n", b"227 Entering Passive Mode (192,0,2,1,4,1)\r\n",
    b"INVITE sip:a SIP/2.0\r\n", b"OPTIONS rtsp://a RTSP/1.0\r\n", b"\x05\x01\0", b"\x04\x01\0\x50",
    b"\x03\0\0\x13\x0e\xe0", b"\xffSMB", b"\xfeSMB", b"\x13BitTorrent protocol",
    b"*1\r\n$4\r\nPING\r\n",
    b"exit\n", b"quit\n", b"\x81\x80\0\0\0\0", b"\x88\0", b"\x1f\x8b\x08", b"0\r\n\r\n",
)  # fmt: skip
"""Byte sequences that mean something to some device."""

COMMON_TOKENS: tuple[bytes, ...] = (
    b"\xff", b"\xff\xff", b"\r\0", b"\r", b"\n", b"\r\n", b"\0", b"\x03", b"\x04", b"\x11",
    b"\x13", b"\x1a", b"\x7f", b"\t", b"\x80", b"\r\xff",
)  # fmt: skip
"""Those of :data:`TOKENS` that most often break a path."""

COUNTING = bytes(range(256)) + b"\0"
"""Every byte, in a period that is prime: no buffer size is a multiple of it."""

BOUNDARIES: tuple[int, ...] = (
    1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 63, 64, 72, 80, 100, 127, 128, 132, 255, 256, 257, 500,
    511, 512, 513, 536, 576, 768, 998, 1000, 1023, 1024, 1025, 1146, 1220, 1280, 1360, 1394, 1400,
    1440, 1448, 1452, 1460, 1492, 1500, 1536, 2000, 2047, 2048, 2049, 2304, 3000, 4000, 4095, 4096,
    4097, 5000, 8000, 8191, 8192, 8193, 8948, 8960, 9000, 10000, 12288, 16000, 16383, 16384, 16385,
    20000, 24576, 32767, 32768, 32769, 50000, 65483, 65495, 65535, 65536, 65537,
)  # fmt: skip
"""Sizes at which a buffer, a segment, a record or a counter is full."""


def fill(size: int, filler: bytes) -> bytes:
    """Return ``size`` bytes: ``filler`` repeated and cut off."""
    return (filler * (size // len(filler) + 1))[:size]
