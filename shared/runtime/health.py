"""Is a service alive: it touches a file while its loop turns; the container asks how long ago.

``python -m shared.runtime.health PATH AGE_MAX_S`` exits with 0 while the file is young enough.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from shared.domain.units import NS_PER_S
from shared.runtime.clock import Clock, SystemClock

HEALTH_FILE: Final = "DRIFTLESS_HEALTH_FILE"


class Liveness:
    """A file whose time of change says when the service last went round its loop."""

    def __init__(self, path: str | Path | None) -> None:
        self.path = Path(path) if path else None

    def beat(self) -> None:
        """Say "alive now"; does nothing where nobody watches."""
        if self.path is not None:
            self.path.touch()

    def age_ns(self, clock: Clock) -> int:
        """Return how long ago the last beat was; raises OSError when there never was one."""
        assert self.path is not None
        return clock.now_ns() - self.path.stat().st_mtime_ns


def liveness(environ: Mapping[str, str]) -> Liveness:
    """Return the liveness file that the container watches, or one that nobody does."""
    return Liveness(environ.get(HEALTH_FILE))


def main(arguments: list[str]) -> int:
    """Return 0 if the file was touched recently, 1 if not, 2 if asked wrongly."""
    try:
        path, age_max_s = arguments
        limit_ns = int(age_max_s) * NS_PER_S
    except ValueError:
        sys.stderr.write("usage: python -m shared.runtime.health PATH AGE_MAX_S\n")
        return 2
    try:
        age_ns = Liveness(path).age_ns(SystemClock())
    except OSError as e:
        sys.stderr.write(f"{path}: {e.strerror}: the service never came up\n")
        return 1
    if age_ns > limit_ns:
        sys.stderr.write(f"{path}: last beat {age_ns // NS_PER_S} s ago, limit {age_max_s} s\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
