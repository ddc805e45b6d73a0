"""What must never be shown: a wrapper that hides its value, and where secrets are read from."""

import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NoReturn, final

NATS_PASSWORD: Final = "DRIFTLESS_NATS_PASSWORD"
REDIS_PASSWORD: Final = "DRIFTLESS_REDIS_PASSWORD"
CHAIN_KEY: Final = "DRIFTLESS_CHAIN_KEY"  # of the node, where its address holds one
PRIVATE_KEY: Final = "DRIFTLESS_PRIVATE_KEY"
RELAYER_KEY: Final = "DRIFTLESS_RELAYER_KEY"

_KEY: Final = re.compile(r"(0x)?[0-9a-fA-F]{64}")
_BYTES_MAX: Final = 4096  # a secret file larger than this is some other file


class SecretError(Exception):
    """A secret is missing, given twice, malformed or readable by others; never shows it."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source = source
        self.problem = problem


@final
class Secret:
    """Text that repr, str, format, copies, pickles and encoders cannot show."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself; the caller takes care where it goes."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is neither copied nor pickled")


def read_secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return the secret ``name`` or the content of the file ``name_FILE``; None without either."""
    value, path = environ.get(name, ""), environ.get(f"{name}_FILE", "")
    if value and path:
        raise SecretError(name, f"set either {name} or {name}_FILE, not both")
    if value:
        return Secret(value)
    return Secret(_read(Path(path), f"{name}_FILE")) if path else None


def read_private_key(environ: Mapping[str, str], key_file: str | None) -> Secret:
    """Return the signing key from the environment or from a file only its owner may read."""
    value, named = environ.get(PRIVATE_KEY, ""), environ.get(f"{PRIVATE_KEY}_FILE", "")
    places = [bool(value), bool(named), bool(key_file)].count(True)
    if places != 1:
        problem = "no key" if not places else "more than one key"
        where = f"set one of {PRIVATE_KEY}, {PRIVATE_KEY}_FILE and account.key_file"
        raise SecretError(PRIVATE_KEY, f"{problem}: {where}")
    source, path = PRIVATE_KEY, named or key_file
    if path:
        source = f"{PRIVATE_KEY}_FILE" if named else "account.key_file"
        value = _read_private(Path(path), source)
    if not _KEY.fullmatch(value):
        raise SecretError(source, "not a private key: 64 hex digits, with or without 0x, needed")
    return Secret(value if value.startswith("0x") else f"0x{value}")


def read_relayer_key(environ: Mapping[str, str], key_file: str | None) -> Secret | None:
    """Return the relayer's API key from the environment or a private file; None without one."""
    given = read_secret(environ, RELAYER_KEY)
    if key_file is None:
        return given
    if given is not None:
        where = f"set one of {RELAYER_KEY}, {RELAYER_KEY}_FILE and account.relayer_key_file"
        raise SecretError(RELAYER_KEY, f"more than one key: {where}")
    return Secret(_read_private(Path(key_file), "account.relayer_key_file"))


def _read_private(path: Path, source: str) -> str:
    text = _read(path, source)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SecretError(source, f"mode {mode:04o} lets others read it: chmod 600 {path}")
    return text


def _read(path: Path, source: str) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_BYTES_MAX).strip()
    except UnicodeDecodeError:
        raise SecretError(source, f"{path} is not text") from None  # the error shows the bytes
    except OSError as e:
        raise SecretError(source, f"cannot read {path}: {e.strerror}") from e
    if not text:
        raise SecretError(source, f"{path} is empty")
    return text
