"""Whatever the strategies draw comes back: over each kind of listener, in both lanes."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from echoproto.probe import EchoTarget, Session, Target, sessions
from tests.system.server import running, twistd
from tests.tls import make_certificate

pytestmark = pytest.mark.slow

needs_tls = pytest.mark.skipif(
    importlib.util.find_spec("OpenSSL") is None, reason="needs the extra tls (pyOpenSSL)"
)
KINDS = ["unix", pytest.param("tls", marks=needs_tls), "workers", "v1", "v2"]

anything = given(session=sessions(parallel=8))
some = settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture(scope="module", params=["fast", "stock"])
def any_lane(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=KINDS)
def tested(
    request: pytest.FixtureRequest, any_lane: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EchoTarget]:
    """A server that listens on one kind of endpoint."""
    kind, directory = str(request.param), tmp_path_factory.mktemp("served")
    words = ["--lane", any_lane, *_options(kind, directory)]
    with running(twistd(*words, port=None if "--listen" in words else 0)) as server:
        if kind == "unix":
            server.wait_for("listening on unix:")
            yield EchoTarget(Target.parse(f"unix:{directory}/socket"))
        elif kind == "tls":
            yield EchoTarget(
                Target.parse(f"tls:127.0.0.1:{server.port}", insecure=True), patience=2
            )
        else:
            header = kind if kind in ("v1", "v2") else None
            yield EchoTarget(Target.parse(f"127.0.0.1:{server.port}", send_proxy=header))


def _options(kind: str, directory: Path) -> list[str]:
    if kind == "unix":
        return ["--listen", f"unix:{directory}/socket"]
    if kind == "tls":
        pem = make_certificate(directory / "both.pem")
        return ["--listen", f"ssl:0:interface=127.0.0.1:privateKey={pem}"]
    return ["--workers", "2"] if kind == "workers" else ["--proxy-protocol", "required"]


@some
@anything
def test_any_session_comes_back(tested: EchoTarget, session: Session) -> None:
    tested.check(session)


@some
@anything
def test_the_fixture_of_the_plugin(echo_target: EchoTarget, session: Session) -> None:
    echo_target.check(session)
