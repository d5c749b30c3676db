"""The probe in your own test suite: the fixture ``echo_target``.

    @given(conversations())
    @settings(deadline=None)
    def test_the_balancer_loses_nothing(echo_target, conversation):
        echo_target.check(conversation)

``pytest --echo-target balancer:7`` names the target, or ``echo_target`` in the ini file. Without
either, echoproto's own server is started as a process for the session.

pytest imports this module in every run wherever echoproto is installed, so what costs time is
imported when the fixture is used. The fixture needs only pytest; the strategies need Hypothesis,
which comes with the extra ``probe``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from echoproto.probe.pytest_plugin import options, running_test, short_summary

if TYPE_CHECKING:
    from collections.abc import Generator

    from echoproto.probe.pytest_plugin.target import EchoTarget
    from echoproto.probe.relay.broken_path import BrokenPaths

__all__ = ["broken_path", "echo_target"]

# The name of the property of a test, in the JUnit file too, that counts stalls.
_STALLS = "echo_target_ignored_stalls"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--echo-target``, the options of the target, and the same for the ini file."""
    options.add(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Report a target that cannot be used before any test is run."""
    options.target_of(config)
    options.patience_of(config)


def pytest_report_header(config: pytest.Config) -> str | None:
    """Name the target, if one is given."""
    target = options.target_of(config)
    return f"echo target: {' '.join(target.words)}" if target else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that takes ``echo_case`` with each case of the catalogue."""
    if "echo_case" not in metafunc.fixturenames:
        return
    from echoproto.probe.script.catalogue import catalogue

    cases = catalogue()
    ids = [f"{case.number} {case.name}" for case in cases]
    metafunc.parametrize("echo_case", cases, ids=ids)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Give each test a memory of its own: no test changes what another one concludes."""
    with running_test.begin():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Note how many stalls a test ignored, where JUnit and xdist can read it."""
    try:
        return (yield)
    finally:
        test = running_test.current()
        if test is not None and test.ignored_stalls:
            item.user_properties.append((_STALLS, test.ignored_stalls))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have a failed check in the short summary of pytest in one line, in CI too."""
    report = yield
    test = running_test.current()
    if test is not None and test.summaries and call.excinfo is not None:
        short_summary.shorten(report, call.excinfo.value, test.summaries)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many stalls were ignored."""
    ignored = sum(
        int(str(value))
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in getattr(report, "user_properties", ())
        if name == _STALLS
    )
    if ignored:
        stalls = "stall" if ignored == 1 else "stalls"
        terminalreporter.write_line(f"echo target: ignored {ignored} {stalls} that did not recur")


@pytest.fixture(scope="session")
def echo_target(request: pytest.FixtureRequest) -> Iterator[EchoTarget]:
    """The echo to test: that of ``--echo-target``, or our own server."""
    from echoproto.probe.pytest_plugin.server import own_server
    from echoproto.probe.pytest_plugin.target import EchoTarget
    from echoproto.probe.search.preflight import NotAnEchoError
    from echoproto.probe.wire.connector import LocalError
    from echoproto.probe.wire.target import Target, TargetError

    target = options.target_of(request.config)
    asked_by = options.asked_by(request.config)
    with contextlib.ExitStack() as stack:
        if target is None:
            target = Target.parse(stack.enter_context(own_server()))
        tested = EchoTarget(target, patience=options.patience_of(request.config))
        try:
            tested.connect()
        except (TargetError, NotAnEchoError, LocalError) as error:
            pytest.fail(f"{asked_by} {target}: {error}", pytrace=False)
        yield tested


@pytest.fixture
def broken_path() -> Iterator[BrokenPaths]:
    """Makes paths with faults: ``broken_path("close-at-fin", target="127.0.0.1:9999")``."""
    from echoproto.probe.relay.broken_path import BrokenPaths

    with BrokenPaths() as paths:
        yield paths
