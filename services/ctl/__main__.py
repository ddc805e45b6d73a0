"""The command line: every command, and the one place where errors become a line and a code."""

import inspect
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer

from services.ctl.archive import archive, restore
from services.ctl.check import check
from services.ctl.commands import follow, halt, reduce_only, resume, unfollow
from services.ctl.config import config
from services.ctl.demo import demo
from services.ctl.errors import EXPECTED, INTERRUPTED, OK, USAGE, code_of, text_of
from services.ctl.orders import end_order
from services.ctl.provision import provision
from services.ctl.rebuild import rebuild
from services.ctl.reload import reload
from services.ctl.replay import replay
from services.ctl.risk import risk
from services.ctl.status import status
from services.ctl.up import down, up
from services.ctl.venue import venue
from services.ctl.verify import verify
from services.ctl.what_if import what_if
from services.ctl.why import why

_COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "See it work": (demo, up, down, venue),
    "Look": (status, risk, why, replay, config, what_if, verify, check),
    "Act": (halt, reduce_only, resume, unfollow, follow, end_order, reload, provision),
    "Keep": (archive, restore, rebuild),
}


def application() -> typer.Typer:
    """Return the command line."""
    app = typer.Typer(
        name="driftless",
        help="Copy what Polymarket traders mean, and never drift from the venue.\n\n"
        "Start with `driftless demo`: no account, no key, no network.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    for panel, commands in _COMMANDS.items():
        for command in commands:
            told = flowed(command.__doc__ or "")
            app.command(name_of(command), rich_help_panel=panel, help=told)(command)
    return app


def name_of(command: Callable[..., Any]) -> str:
    """Return what a command is called on the command line."""
    return command.__name__.replace("_", "-")


def flowed(text: str) -> str:
    """Return a docstring with each paragraph on one line, for the terminal to wrap."""
    paragraphs = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an expected error is one line on stderr."""
    given = list(arguments) or ["--help"]
    try:
        code = application()(given, standalone_mode=False)
    except typer.TyperException as e:
        return _failed(f"{e.format_message()} (see `driftless {_verb(given)}--help`)", USAGE)
    except EXPECTED as e:
        return _failed(text_of(e), code_of(e))
    except typer.Exit as e:
        return e.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def _verb(given: list[str]) -> str:
    names = {name_of(command) for commands in _COMMANDS.values() for command in commands}
    return f"{given[0]} " if given[0] in names else ""


def _failed(text: str, code: int) -> int:
    print(f"driftless: {text}", file=sys.stderr)
    return code


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
