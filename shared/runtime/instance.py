"""The name of a running process, from which another on the same machine sees that it is dead.

A lease outlives its holder by up to its time to live, since from afar a dead process and a slow
one look the same. From beside it they do not: a process that this machine's kernel does not have
any more will never write again, so its lanes may be taken at once. A frozen one still exists, and
a name from another machine or another container says nothing; both are waited for.
"""

import os
import secrets
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_STATE: Final = 0  # fields of /proc/PID/stat after the command's name
_STARTED: Final = 19  # clock ticks since boot
_ENDED: Final = ("Z", "X")


def instance_name(service: str) -> str:
    """Return a name for this process that no other has: service, pid, its start, machine."""
    pid, token = os.getpid(), secrets.token_hex(4)
    started = _stat(pid)[_STARTED] if _home() else "0"
    return f"{service}-{pid}-{started}-{_home() or 'anywhere'}-{token}"


def is_dead(instance: str) -> bool:
    """Tell whether a named process has ended; False where that cannot be known from here."""
    parts = instance.split("-")
    if len(parts) != 5 or not _home() or parts[3] != _home() or not parts[1].isdigit():
        return False
    pid = int(parts[1])
    try:
        os.kill(pid, 0)
        fields = _stat(pid)
    except ProcessLookupError:
        return True
    except OSError:  # another user's, or gone this moment: the next look tells
        return False
    return fields[_STATE] in _ENDED or fields[_STARTED] != parts[2]


def _stat(pid: int) -> list[str]:
    text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()


@cache
def _home() -> str:
    """Return what the processes that see each other's ids have in common, "" where unknown."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8")
        space = (_PROC / "self/ns/pid").readlink()
    except OSError:
        return ""
    return blake2b(f"{boot}{space}".encode(), digest_size=6).hexdigest()
