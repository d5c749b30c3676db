"""What the tests of the benchmarks share: where programs are compiled, made-up measurements."""

import sys
from collections.abc import Iterator

import pytest

from benchmarks.build import compiled, compiler_missing
from benchmarks.rounds import Measurement

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Programs are compiled once a test run, and not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def cc(cache: None) -> None:
    """For tests that need a C compiler; what they use is compiled before."""
    if missing := compiler_missing("load.c"):
        pytest.skip(missing)
    compiled("load.c")
    compiled("servers/echo_epoll.c")


def measurement(
    peer: str = "ours",
    work: str = "pingpong-50",
    number: int = 0,
    cpu: float = 1.0,
    size: int = 1024,
    p99: float = 0.001,
    rss_per_idle: float | None = None,
    rate: float | None = None,
    waited: float = 0.1,
) -> Measurement:
    """Return a measurement of 100,000 echoes in two seconds."""
    return Measurement(
        peer=peer,
        work=work,
        round=number,
        echoes=100_000,
        bytes=100_000 * size,
        seconds=2.0,
        cpu=cpu,
        user=cpu / 4,
        system=cpu * 3 / 4,
        waited=waited,
        load_cpu=1.5,
        p50=p99 / 2,
        p99=p99,
        p999=p99 * 2,
        late=0.0,
        rate=rate,
        rss=30 * 1024 * 1024,
        rss_per_idle=rss_per_idle,
    )
