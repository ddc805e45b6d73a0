"""The signing key's way into this process, and what keeps it from leaving.

It is read once and its environment variable is dropped, so that no child process, and nobody who
prints the environment, has it. A crash leaves no memory image, and other processes of this user
may not look into this one.
"""

import ctypes
import logging
import resource
from collections.abc import MutableMapping
from typing import Final

from shared.runtime.config import Config, load_private_key
from shared.runtime.logs import log
from shared.runtime.secrets import PRIVATE_KEY, RELAYER_KEY, Secret, read_relayer_key

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
_logger = logging.getLogger(__name__)


def take_key(config: Config, environ: MutableMapping[str, str]) -> Secret:
    """Return the signing key, and drop it from the environment. Raises SecretError."""
    try:
        return load_private_key(config, environ)
    finally:
        environ.pop(PRIVATE_KEY, None)


def take_relayer_key(config: Config, environ: MutableMapping[str, str]) -> Secret | None:
    """Return the relayer's key if one is given, and drop it likewise. Raises SecretError."""
    try:
        return read_relayer_key(environ, config.account.relayer_key_file)
    finally:
        environ.pop(RELAYER_KEY, None)


def forbid_dumps() -> None:
    """Write no core file, and let nobody of this user attach or read this process's memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        done = ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0
    except (AttributeError, OSError):  # not Linux
        done = False
    if not done:
        log(_logger, logging.WARNING, "memory_readable", reason="prctl refused")
