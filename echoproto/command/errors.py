"""What is wrong with a command line, in one line."""

from __future__ import annotations

import difflib
import getopt
from collections.abc import Iterable

from twisted.python import usage

# A longer list is harder to read than --help.
_MAX_SUGGESTIONS = 4


class CannotStartError(SystemExit, Exception):
    """The reason why the service cannot start, in one line.

    It is an ``Exception``, because twistd cleans up (its pid file, its waiting
    parent) only after one. It is a ``SystemExit``, because the interpreter prints
    a traceback for every other exception; for this one it prints the line and
    exits with 1.
    """

    def __init__(self, line: str, printed: bool = False) -> None:
        """Give the reason.

        :param line: the reason.
        :param printed: whether it was printed already, so that the interpreter only exits.
        """
        super().__init__(line)
        if printed:
            self.code = 1


def option_error(option: str, value: object, reason: str, allowed: str) -> str:
    """Return the error message for the value of an option, in one line.

    :param option: its name, without dashes.
    :param value: the value that was given.
    :param reason: what is wrong with the value.
    :param allowed: which values are valid.
    """
    shown = str(value)
    if not shown or shown != shown.strip():
        shown = repr(shown)
    return f"--{option} {on_one_line(shown)}: {reason}; allowed: {allowed}"


def on_one_line(text: str) -> str:
    """Escape and shorten a text from the command line, so that it fits on one line."""
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return text if len(text) <= 80 else f"{text[:60]}...{text[-17:]}"


def explain_getopt(
    error: getopt.GetoptError, long_options: Iterable[str], program: usage.Options | None = None
) -> str:
    """Return the message for an option that getopt rejects, in one line.

    :param error: its ``msg`` has the form "option --NAME" and the reason.
    :param long_options: the known options, as getopt takes them.
    :param program: the options of the program that runs this, if one does.
    """
    dashes = "--" if error.msg.startswith(f"option --{error.opt} ") else "-"
    option = on_one_line(f"{dashes}{error.opt}")
    # The name may contain anything, so it must not be searched for a reason.
    reason = error.msg.removeprefix(f"option {dashes}{error.opt} ")
    names = [name.rstrip("=") for name in long_options]
    if reason == "requires argument":
        return f"option {option} requires a value; see --help"
    if reason == "must not have an argument":
        return f"option {option} takes no value; see --help"
    if reason == "not a unique prefix":
        similar = sorted(f"--{name}" for name in names if name.startswith(error.opt))
        if len(similar) <= _MAX_SUGGESTIONS:
            return f"ambiguous option {option}; did you mean {' or '.join(similar)}?"
        return f"ambiguous option {option}; see --help"
    of_program = _option_of(program, error.opt, dashes) if program is not None else None
    if of_program is not None:
        return f"{option} is an option of the program; allowed: before the word echo: {of_program}"
    similar = difflib.get_close_matches(error.opt, names, n=1) if dashes == "--" else []
    hint = f"did you mean --{similar[0]}?" if similar else "see --help"
    return f"unknown option {option}; {hint}"


def bad(option: str, value: object, reason: str, allowed: str) -> usage.UsageError:
    """Return the error for the value of an option; the arguments are those of option_error."""
    return usage.UsageError(option_error(option, value, reason, allowed))


def _option_of(program: usage.Options, name: str, dashes: str) -> str | None:
    """Return how an option of twistd or twist is given; ``None`` if it has no such option."""
    # usage.Options has them as getopt takes them; a program without options has neither.
    known = [each.rstrip("=") for each in getattr(program, "longOpt", ())]
    short = str(getattr(program, "shortOpt", ""))
    if dashes == "--":
        takes_value = f"{name}=" in getattr(program, "longOpt", ())
        known_here = name in known
    else:
        takes_value = f"{name}:" in short
        known_here = len(name) == 1 and name != ":" and name in short
    if not known_here:
        return None
    word = "twist" if type(program).__name__ == "TwistOptions" else "twistd"
    return f"{word} {dashes}{name}{' VALUE' if takes_value else ''} echo"
