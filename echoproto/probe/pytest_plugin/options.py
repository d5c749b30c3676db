"""The options of the plugin: ``--echo-target`` and those of the target, and the same as ini names.

An option ``--ca`` of ``echoproto fuzz`` is ``--echo-target-ca`` here, and ``echo_target_ca`` in the
ini file. The command line takes precedence, option by option.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from echoproto.probe.wire.limits import PATIENCE
from echoproto.probe.wire.target_options import TARGET_OPTIONS

if TYPE_CHECKING:
    from echoproto.probe.wire.target import Target

__all__ = ["add", "asked_by", "patience_of", "target_of"]

_TARGET: pytest.StashKey[Target | None] = pytest.StashKey()


def add(parser: pytest.Parser) -> None:
    """Add all options and ini names."""
    group = parser.getgroup("echoproto", "echoproto: find out what a network path does to bytes")
    group.addoption(
        "--echo-target",
        metavar="TARGET",
        help="the target of the fixture echo_target, an echo behind a path: host:port, "
        "tls:host:port, unix:/path, ws://host/path or exec:COMMAND (default: start an echo server)",
    )
    parser.addini("echo_target", "the same as --echo-target, which takes precedence")
    group.addoption(
        "--echo-patience",
        metavar="S",
        help=f"seconds of silence after which bytes are lost; before, they are late "
        f"(default: {PATIENCE:g})",
    )
    parser.addini("echo_patience", "the same as --echo-patience")
    for name, option in TARGET_OPTIONS.items():
        flag, ini = f"--echo-target-{name.replace('_', '-')}", f"echo_target_{name}"
        if option.multiple:
            group.addoption(flag, action="append", metavar=option.metavar, help=option.text)
            parser.addini(ini, f"the same as {flag}, one on each line", type="linelist")
        elif option.metavar:
            group.addoption(
                flag, metavar=option.metavar, choices=option.choices or None, help=option.text
            )
            parser.addini(ini, f"the same as {flag}")
        else:
            group.addoption(flag, action="store_true", default=None, help=option.text)
            parser.addini(ini, f"the same as {flag}", type="bool", default=False)


def patience_of(config: pytest.Config) -> float:
    """Return the patience asked for, in seconds.

    Raises:
        UsageError: if it is not a number above zero.
    """
    given, name = config.getoption("echo_patience"), "--echo-patience"
    if given is None:
        given, name = config.getini("echo_patience"), "echo_patience"
    try:
        patience = float(given or PATIENCE)
    except ValueError:
        patience = math.nan
    if not 0 < patience < math.inf:
        raise pytest.UsageError(f"{name} {given!r}; must be a number of seconds, more than 0")
    return patience


def asked_by(config: pytest.Config) -> str:
    """Return the name of the option that named the target, for messages."""
    if config.getoption("echo_target"):
        return "--echo-target"
    return "echo_target" if config.getini("echo_target") else "our own server"


def target_of(config: pytest.Config) -> Target | None:
    """Return the target asked for; None for our own server.

    Raises:
        UsageError: if it cannot be used, or an option needs another kind of target.
    """
    if _TARGET not in config.stash:
        config.stash[_TARGET] = _parse(config)
    return config.stash[_TARGET]


def _parse(config: pytest.Config) -> Target | None:
    place = config.getoption("echo_target") or config.getini("echo_target")
    values = {name: value for name in TARGET_OPTIONS if (value := _value(config, name))}
    if not place:
        if values:
            given = ", ".join(_in_words(config, name) for name in values)
            raise pytest.UsageError(f"{given}: needs --echo-target, or echo_target in the ini file")
        return None
    from echoproto.probe.wire.target import Target, TargetError

    try:
        target = Target.parse(str(place), **values)
        # Reads the files of certificates, which would fail in the first test otherwise.
        _ = target.tls_context
    except TargetError as error:
        message = _with_our_names(config, str(error))
        raise pytest.UsageError(f"{asked_by(config)}: {message}") from None
    return target


def _value(config: pytest.Config, name: str) -> Any:
    value = config.getoption(f"echo_target_{name}")
    if value is not None:
        return value
    try:
        value = config.getini(f"echo_target_{name}")
    except (ValueError, pytest.UsageError) as error:  # of a flag, in older and newer versions
        raise pytest.UsageError(f"echo_target_{name}: {error}; must be true or false") from None
    if value and TARGET_OPTIONS[name].is_file and config.inipath is not None:
        # As pytest does with its own: relative to the file that says it.
        return str(Path(config.inipath).parent / value)
    return value


def _in_words(config: pytest.Config, name: str) -> str:
    in_ini_file = config.getoption(f"echo_target_{name}") is None
    if in_ini_file and config.getini(f"echo_target_{name}"):
        return f"echo_target_{name}"
    return f"--echo-target-{name.replace('_', '-')}"


def _with_our_names(config: pytest.Config, message: str) -> str:
    """Return a message about ``--ca`` with the name that the option has here."""
    for name in TARGET_OPTIONS:
        option = re.escape(f"--{name.replace('_', '-')}")
        message = re.sub(rf"(?<!\S){option}(?![\w-])", _in_words(config, name), message)
    return re.sub(r"(?<!\S)-([46])(?!\w)", r"--echo-target-family \1", message)
