"""The command line's entry: one line for each error, and an exit code.

Exit codes: 0 clean, 1 failure found (or loss), 2 could not test, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import version

import click

from echoproto.probe.cli.catalogue import list_catalogue
from echoproto.probe.cli.fuzz import fuzz
from echoproto.probe.cli.options import INTERRUPTED
from echoproto.probe.cli.ping import ping
from echoproto.probe.cli.replay import replay
from echoproto.probe.script.conversation import ConversationError
from echoproto.probe.search.failures import SavedFailuresError
from echoproto.probe.wire.channel import LocalError
from echoproto.probe.wire.target import TargetError

__all__ = ["cli", "main"]


class _Commands(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = get_close_matches(name, self.commands)
            raise click.UsageError(f"unknown command {name}{_did_you_mean(close)}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("echoproto"), message="echoproto %(version)s")
def cli() -> None:
    """Find out what a network path does to bytes.

    The path must end in an echo (RFC 862). TARGET is host:port, tls:host:port or unix:/path,
    with IPv6 addresses in brackets.

    Exit codes: 0 clean, 1 failure found (or loss), 2 could not test, 130 interrupted.
    """


for _command in (fuzz, replay, list_catalogue, ping):
    cli.add_command(_command)


def main(args: Sequence[str] | None = None) -> int:
    """Run a command line; report an error in one line.

    Args:
        args: the words after the program's name; None for those of this process.

    Returns:
        the exit code.
    """
    try:
        code = cli.main(args=args, prog_name="echoproto", standalone_mode=False)
    except click.Abort:
        return INTERRUPTED
    except click.NoSuchOption as error:
        close = error.possibilities or ()
        return _fail(f"unknown option {error.option_name}{_did_you_mean(close)}")
    except click.ClickException as error:
        return _fail(error.format_message())
    except (TargetError, LocalError, SavedFailuresError, ConversationError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe (``| head``); the interpreter must not flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _did_you_mean(close: Sequence[str]) -> str:
    return f"; did you mean {close[0]}?" if close else ""


def _fail(message: str) -> int:
    print(f"echoproto: {' '.join(message.split())}", file=sys.stderr)
    return 2
