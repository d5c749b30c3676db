"""The workloads of a run, and those of the plots."""

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * 1024

#: Descriptors that a server or the load generator needs in addition to its connections.
OWN_DESCRIPTORS = 100


@dataclass(frozen=True)
class Work:
    """
    One workload.

    Attributes:
        name: its name on the command line and in the tables.
        title: a description.
        mode: the mode of the load generator: pingpong, stream, open or accept (see load.c).
        connections: the number of active connections.
        size: the size of a message in bytes.
        idle: the number of connections that are open and silent meanwhile.
        tls: whether the connections carry TLS.
    """

    name: str
    title: str
    mode: str
    connections: int
    size: int
    idle: int = 0
    tls: bool = False

    @property
    def descriptors(self) -> int:
        """The number of open files that each process needs."""
        return self.connections + self.idle + OWN_DESCRIPTORS


def works(idle: int) -> tuple[Work, ...]:
    """Return the workloads of a run, with `idle` silent connections in the one that has any."""
    return (
        Work("pingpong-50", "50 connections x 1 KiB ping-pong", "pingpong", 50, KIB),
        Work(
            "neighbours",
            f"50 connections x 1 KiB ping-pong among {idle:,} idle",
            "pingpong",
            50,
            KIB,
            idle,
        ),
        Work("pingpong-1000", "1000 connections x 64 B ping-pong", "pingpong", 1000, 64),
        Work("pingpong-1", "1 connection x 64 B ping-pong", "pingpong", 1, 64),
        Work("bulk", "8 connections x 1 MiB streaming", "stream", 8, MIB),
        Work("bulk-50", "50 connections x 64 KiB ping-pong", "pingpong", 50, 64 * KIB),
        Work("accept", "connect, echo 64 B once, close; 50 at a time", "accept", 50, 64),
        Work("latency", "50 connections x 1 KiB at a fixed rate", "open", 50, KIB),
        Work("tls-50", "TLS: 50 connections x 1 KiB ping-pong", "pingpong", 50, KIB, tls=True),
        Work("tls-bulk", "TLS: 8 connections x 1 MiB streaming", "stream", 8, MIB, tls=True),
        Work(
            "tls-accept",
            "TLS: connect, handshake, echo 64 B once, close; 50 at a time",
            "accept",
            50,
            64,
            tls=True,
        ),
    )


#: The workloads of the plot of cost against connections.
BY_CONNECTIONS = tuple(
    Work(f"connections-{n}", f"{n} connections x 1 KiB ping-pong", "pingpong", n, KIB)
    for n in (1, 4, 16, 50, 200, 1000, 4000)
)

#: The workloads of the plot of cost against message size.
BY_SIZE = tuple(
    Work(f"size-{n}", f"50 connections x {n} B ping-pong", "pingpong", 50, n)
    for n in (16, 64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB)
)
