"""The bounds of numbers that a user gives, on the command line and in Python.

Each number has an upper bound: beyond it, something below fails in its own way, such as a
float that overflows or a poll that refuses its timeout.
"""

from __future__ import annotations

# A year, in seconds. epoll_wait takes no more than 24 days at once; reactors wait again.
MOST_SECONDS = 365 * 24 * 3600.0
# What listen(2) takes, and more connections than there are descriptors.
MOST_CONNECTIONS = 2**31 - 1
# One TiB.
MOST_BYTES_PER_SECOND = 2**40
# All connections are checked sixteen times in the timeout.
LEAST_IDLE_TIMEOUT = 0.1
# A worker reports each second, and a busy machine may be late by a few.
LEAST_WORKER_TIMEOUT = 5.0
# What Linux takes for TCP_KEEPIDLE, in seconds.
LEAST_KEEPALIVE = 1.0
MOST_KEEPALIVE = 32767.0


def check_number(
    name: str, value: float, allowed: str, most: float, least: float = 0.0, zero: bool = True
) -> None:
    """Check that a number is within its bounds.

    :param name: what it is, for the message.
    :param value: the number.
    :param allowed: the values that are valid, for the message.
    :param most: the upper bound.
    :param least: the lower bound.
    :param zero: whether 0 is valid, although it may be below the lower bound.
    :raises ValueError: when it is out of bounds, or not a number.
    """
    # Not a number compares as false.
    if not (least <= value <= most or (zero and value == 0)):
        try:
            shown = repr(value)
        except ValueError:
            # An int of more digits than Python converts.
            shown = "a very large number"
        shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
        raise ValueError(f"{name}={shown}; allowed: {allowed}")
