"""`driftless archive` and `restore`: the ledger into files that outlive its disk, and back."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress, TaskID

from services.ctl.errors import CtlError
from services.ctl.figures import json_text
from services.ctl.options import ConfigOption, JsonOption, console
from services.ctl.session import connect_nats, find_place, session
from services.lab import archive as archives
from services.lab.archive import Archive, Manifest
from shared.runtime.bus import NatsLedger
from shared.runtime.jetstream import check_whole
from shared.runtime.lease import running_services

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The archive's folder.")]


def archive(
    folder: FolderArgument = Path("archive"),
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add to a folder what the ledger has beyond it, compressed, each file with its SHA-256.

    Run it as often as you like, beside the services; each run continues where the last one
    stopped. `driftless verify --archive DIR` and `driftless replay --archive DIR` read such a
    folder anywhere, without NATS; `driftless restore DIR` makes a ledger of it.

    Example: driftless archive /backup/driftless

    Exit codes: 0 the folder has everything, 1 it belongs to another ledger or is damaged, 2 usage,
    3 NATS or Redis away.
    """
    asyncio.run(_archive(folder, config, as_json))


async def _archive(folder: Path, config: Path | None, as_json: bool) -> None:
    async with session(find_place(config)) as at:
        await check_whole(at.client)
        before = archives.opened(folder)
        with _Bar("archiving", quiet=as_json) as progress:
            manifest = await archives.write(at.ledger, folder, progress=progress)
    if as_json:
        print(json_text(manifest_json(folder, manifest)))
        return
    added = manifest.last - before.last
    size = sum(segment.bytes for segment in manifest.segments)
    print(
        f"{folder}: messages 1 to {manifest.last:,} in {len(manifest.segments)} files, "
        f"{size / 1e6:,.1f} MB; {added:,} new"
    )


def restore(
    folder: FolderArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the ledger anew from an archive, message by message, under the same numbers.

    Nothing is written over: a ledger that holds messages is refused, and so is a restore while
    services run. Start the services afterwards; what they do not find in Redis they rebuild.

    Example: driftless restore /backup/driftless

    Exit codes: 0 restored, 1 refused or the archive is damaged, 2 usage, 3 NATS or Redis away.
    """
    asyncio.run(_restore(folder, config, as_json))


async def _restore(folder: Path, config: Path | None, as_json: bool) -> None:
    place = find_place(config)
    source = Archive(folder)
    client = await connect_nats(place.load(), place.environ)
    try:
        running = await running_services(client)
        if running:
            raise CtlError(f"{', '.join(running)} run: stop every service, then restore")
        with _Bar("restoring", quiet=as_json) as progress:
            await archives.restore(client, source, progress=progress)
        await check_whole(client)
        head = await NatsLedger(client).head()
    finally:
        await client.close()
    if as_json:
        print(json_text({"messages": head}))
    else:
        print(f"restored messages 1 to {head:,}: start the services, then `driftless verify`")


def manifest_json(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """Return what an archive holds, with stable keys."""
    return {
        "folder": str(folder),
        "messages": manifest.last,
        "files": [
            {"file": each.file, "first": each.first, "last": each.last, "bytes": each.bytes}
            for each in manifest.segments
        ],
    }


class _Bar:
    """A progress bar of messages; nothing where a machine reads."""

    def __init__(self, text: str, *, quiet: bool) -> None:
        screen = console()
        quiet = quiet or not screen.is_terminal
        self._progress = Progress(console=screen, transient=True, disable=quiet)
        self._text = text
        self._task: TaskID | None = None

    def __enter__(self) -> Callable[[int, int], None]:
        self._progress.start()
        return self._told

    def _told(self, done: int, total: int) -> None:
        if self._task is None:
            self._task = self._progress.add_task(self._text, total=total)
        self._progress.update(self._task, completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
