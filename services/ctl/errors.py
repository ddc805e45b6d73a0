"""How a command ends: its exit codes, and the one line that says what to do.

```
CtlError          what the operator asked for cannot be done; carries the exit code
├── UsageError    a wrong option, id or configuration (2)
└── AwayError     NATS, Redis or the venue does not answer (3)
```
"""

from typing import Final

import nats
from redis.exceptions import RedisError

from services.ctl.servers import ServersError
from services.ctl.supervise import ProcessesError
from services.lab.archive import ArchiveError
from shared.runtime.ports import FencedError, GapError, StoreAwayError
from shared.runtime.secrets import SecretError
from shared.runtime.sections import ConfigError

OK: Final = 0
FINDING: Final = 1  # drift, a difference, something missing: what was asked for is not so
USAGE: Final = 2  # a wrong option or configuration
AWAY: Final = 3  # NATS or Redis cannot be reached
INTERRUPTED: Final = 130


class CtlError(Exception):
    """A command that cannot be done; the text is one line that says what to do."""

    code = FINDING


class UsageError(CtlError):
    code = USAGE


class AwayError(CtlError):
    code = AWAY


# What may end a command besides CtlError, and the exit code it stands for.
_CODES: Final[tuple[tuple[type[Exception], int], ...]] = (
    (ConfigError, USAGE),
    (SecretError, USAGE),
    (StoreAwayError, AWAY),
    (RedisError, AWAY),
    (nats.errors.Error, AWAY),
    (ServersError, FINDING),
    (ProcessesError, FINDING),
    (GapError, FINDING),
    (ArchiveError, FINDING),
    (FencedError, FINDING),
)
EXPECTED: Final[tuple[type[Exception], ...]] = (CtlError, *(kind for kind, _ in _CODES))


def code_of(e: Exception) -> int:
    """Return the exit code of an expected error."""
    if isinstance(e, CtlError):
        return e.code
    return next(code for kind, code in _CODES if isinstance(e, kind))


def text_of(e: Exception) -> str:
    """Return an expected error's line; one that a library wrote is given what to do."""
    if isinstance(e, StoreAwayError | RedisError):
        return f"Redis does not answer ({e}): is it running? `driftless check`"
    if isinstance(e, nats.errors.Error):
        return f"NATS does not answer ({e}): is it running? `driftless check`"
    return str(e)
