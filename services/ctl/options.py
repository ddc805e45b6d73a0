"""What the commands share: their common options, and where they print."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="Configuration file; else $DRIFTLESS_CONFIG, else of the `driftless up` or `demo` "
        "that runs here.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for machines instead of tables.")
]


def console() -> Console:
    """Return the terminal; wide where the output is a file, so that no line is cut."""
    plain = Console(highlight=False, soft_wrap=False)
    return plain if plain.is_terminal else Console(highlight=False, width=160)
