"""What a balancer and a supervisor are told."""

from __future__ import annotations

import pytest

from echoproto.status.health import Health


@pytest.mark.parametrize(
    ("health", "not_healthy", "not_ready", "impaired"),
    [
        (Health(True, False, 1, 1), None, None, None),
        (Health(True, True, 1, 1), None, "draining", None),
        (Health(False, False, 1, 1), None, "not listening", None),
        (Health(True, False, 2, 1), None, None, "1 of 2 workers not answering"),
        (
            Health(True, False, 1, 0),
            "no worker answers",
            "no worker answers",
            "1 of 1 worker not answering",
        ),
        # The last worker may end before its parent does.
        (Health(True, True, 1, 0), None, "draining", "1 of 1 worker not answering"),
    ],
)
def test_health(
    health: Health, not_healthy: str | None, not_ready: str | None, impaired: str | None
) -> None:
    assert (health.not_healthy, health.not_ready) == (not_healthy, not_ready)
    assert health.impaired == impaired
