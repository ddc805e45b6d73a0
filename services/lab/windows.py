"""What real leaders' fills say about windows: ``python -m services.lab.windows DATA_DIR``.

Reads recorded fills of real wallets, counts how they are split, flipped and paired, and asks the
aggregator's own core what it makes of them under its defaults and under other policies. With
``--out`` the tables replace what stands between the markers of a document, and nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console

from services.lab.window_sets import WindowsError
from services.lab.window_sheets import renew, sheets, terminal
from services.lab.window_study import Findings, find


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m services.lab.windows", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA_DIR", help="holds a folder for each set")
    parser.add_argument("--out", type=Path, help="a document whose marked tables to renew")
    parser.add_argument("--json", action="store_true", help="print numbers instead of tables")
    return parser.parse_args(given)


def show(found: Findings, *, as_json: bool) -> None:
    """Print what was found on standard output."""
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
        return
    console = Console()
    for sheet in sheets(found):
        console.print(terminal(sheet))


def main(given: Sequence[str] | None = None) -> None:
    """Measure, print, and renew the document; exit 2 if there is nothing to measure."""
    asked = arguments(given)
    progress = Console(stderr=True, highlight=False)
    try:
        found = find(asked.data, progress.print)
        show(found, as_json=asked.json)
        if asked.out:
            renew(asked.out, sheets(found))
            progress.print(f"renewed {asked.out}")
    except (WindowsError, OSError) as e:
        progress.print(f"windows: {e}", style="red", markup=False)
        sys.exit(2)


if __name__ == "__main__":
    main()
