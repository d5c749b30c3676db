"""The command line's entry: one line for each error, and an exit code.

Exit codes: 0 clean, 1 failure found (or loss), 2 could not test (all), 130 or 143 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

import click

from echoproto.probe.cli.ending import exit_code, sigterm_interrupts
from echoproto.probe.cli.exit_codes import CANNOT_TEST
from echoproto.probe.cli.output import is_of_output, silence_stdout

__all__ = ["COMMANDS", "cli", "load", "main"]

COMMANDS = {
    "catalogue": (
        "catalogue:list_catalogue",
        "List conversations that break known paths, or run them.",
    ),
    "fuzz": ("fuzz:fuzz", "Run conversations with TARGET, and shrink those that fail."),
    "ping": ("ping:ping", "Measure round trips to TARGET, and compare every byte."),
    "relay": (
        "relay:relay",
        "Forward each connection from LISTEN to TARGET, with the faults that are asked for.",
    ),
    "replay": ("replay:replay", "Run one conversation, or a saved failure."),
}
"""Where each command lives, and its help in a line.

A command is imported when it is run: together they import more than the help, the version and a
mistyped word need.
"""


def load(name: str) -> click.Command:
    """Import a command.

    Args:
        name: one of ``COMMANDS``.
    """
    module, _, attribute = COMMANDS[name][0].partition(":")
    command: click.Command = getattr(import_module(f"echoproto.probe.cli.{module}"), attribute)
    return command


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name) if cmd_name in COMMANDS else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(name, COMMANDS)
            raise click.UsageError(f"unknown command {name}{_did_you_mean(close)}")
        return super().resolve_command(ctx, args)


# Newer versions of click raise an error for a command without words, older ones do not.
@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(package_name="echoproto", message="echoproto %(version)s")
@click.pass_context
def cli(ctx: click.Context) -> int:
    """Find out what a network path does to bytes.

    The path must end in an echo (RFC 862). TARGET is host:port, tls:host:port, unix:/path,
    ws://host/path, wss://host/path, exec:COMMAND or fd:N, with IPv6 addresses in brackets. Without
    a port, it is 7, that of the echo service.

    Exit codes: 0 clean, 1 failure found (or loss), 2 could not test (all), 130 or 143 interrupted.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        return CANNOT_TEST
    return 0


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line; report an error in one line.

    Args:
        args: the words after the program's name; None for those of this process.

    Returns:
        the exit code.
    """
    try:
        with sigterm_interrupts():
            code = cli.main(args=args, prog_name="echoproto", standalone_mode=False)
            _flush()
    except click.Abort as aborted:  # from a KeyboardInterrupt
        return exit_code(aborted.__cause__)
    except click.NoSuchOption as error:
        close = error.possibilities or ()
        return _fail(f"unknown option {error.option_name}{_did_you_mean(close)}")
    except click.ClickException as error:
        return _fail(error.format_message())
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    except Exception as error:
        return _report(error)
    return code if isinstance(code, int) else 0


def _flush() -> None:
    """Write what is still to be written, so that an error of it is reported as any other."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _report(error: Exception) -> int:
    """Report an error that a user can understand, and return the exit code; raise any other."""
    if isinstance(error, BrokenPipeError):  # the reader has closed the pipe (``| head``)
        silence_stdout()
        return 1
    if is_of_output(error):
        silence_stdout()
        return _fail(f"standard output: {getattr(error, 'strerror', error)}")
    if not isinstance(error, _in_one_line()):
        raise error
    return _fail(str(error))


def _in_one_line() -> tuple[type[Exception], ...]:
    """Return the errors whose message is all that the user needs."""
    from echoproto.probe.script.conversation import ConversationError
    from echoproto.probe.search.failures import SavedFailuresError
    from echoproto.probe.wire.connector import LocalError
    from echoproto.probe.wire.target import TargetError

    return TargetError, LocalError, SavedFailuresError, ConversationError


def _did_you_mean(close: Sequence[str]) -> str:
    return f"; did you mean {close[0]}?" if close else ""


def _fail(message: str) -> int:
    print(f"echoproto: {' '.join(message.split())}", file=sys.stderr)
    return CANNOT_TEST
