"""What is logged of limits that the options do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from echoproto.command import hints
from echoproto.command.hints import log_hints
from echoproto.command.options import Options
from echoproto.command.settings import Settings
from tests.logs import logged

resource = pytest.importorskip("resource")


def hints_for(*arguments: str) -> list[str]:
    options = Options()
    options.parseOptions(list(arguments))
    with logged() as log:
        log_hints(Settings.from_options(options))
    return log.lines


@pytest.mark.parametrize(
    ("arguments", "limit", "needed"),
    [
        ((), 20, None),
        (("--max-connections", "900"), 1000, None),
        (("--max-connections", "901"), 1000, 1001),
        (("--max-connections", "4000"), 1024, 4100),
        (("--max-connections", "4000", "--workers", "4"), 1100, None),
        (("--max-connections", "4000", "--workers", "3"), 1100, 1434),
        (("--max-connections", "4000"), resource.RLIM_INFINITY, None),
    ],
)
def test_too_few_descriptors(
    monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], limit: int, needed: int | None
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    found = hints_for(*arguments)
    assert len(found) == (needed is not None)
    if needed is not None:
        assert found[0].startswith(
            f"--max-connections {arguments[1]} needs {needed} descriptors per process, and "
            f"RLIMIT_NOFILE allows {limit}: "
        )
        assert f"ulimit -n {needed}" in found[0]


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        ("0\n", ["--reuse-port"], True),
        ("1\n", ["--reuse-port"], False),
        ("0\n", [], False),
        ("", ["--reuse-port"], False),
        (None, ["--reuse-port"], False),
    ],
)
def test_handshakes_that_a_closing_port_loses(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    content: str | None,
    arguments: list[str],
    said: bool,
) -> None:
    if content is not None:
        (tmp_path / "sysctl").write_text(content)
    monkeypatch.setattr(hints, "_TCP_MIGRATE_REQ", tmp_path / "sysctl")
    found = hints_for(*arguments)
    assert [line.startswith("net.ipv4.tcp_migrate_req is 0: ") for line in found] == [True] * said
