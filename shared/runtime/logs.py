"""One JSON line an event: its name, then its fields; what is secret is blotted out.

Lines are written at once and whole, without a queue, so that a process that dies has said its
last words, and lines of several processes on one stream do not mix.
"""

import logging
import re
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import msgspec

from shared.runtime.secrets import Secret

_HIDDEN: Final = "***"
_SECRET_KEY: Final = re.compile(
    r"secret|passphrase|password|private_?key|api_?key|authorization|signature(?!_type)", re.I
)
_DEPTH_MAX: Final = 8


def setup_logging(service: str, level: str = "INFO", *, stream: TextIO | None = None) -> None:
    """Send every logger's lines to ``stream`` (standard error) as JSON; may be called again."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter(service))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "websockets", "urllib3", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # telemetry.py reports for it
    logging.captureWarnings(capture=True)


def log(logger: logging.Logger, level: int, event: str, /, **fields: object) -> None:
    """Log an event by name; the fields are not even collected by the handler below its level."""
    if logger.isEnabledFor(level):
        logger.log(level, event, extra={"fields": fields})


class JsonFormatter(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, tz=UTC)
        line: dict[str, object] = {
            "ts": at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "service": self._service,
            "event": _text(record.getMessage()),
            "logger": record.name,
        }
        fields = getattr(record, "fields", {})
        line |= {key: value for key, value in redact(fields).items() if key not in line}
        if record.exc_info:
            line["traceback"] = _text(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


def redact(fields: object) -> dict[str, Any]:
    """Return plain data that can be shown: secrets hidden by type and by the name of their key."""
    plain = _plain(fields, 0)
    return plain if isinstance(plain, dict) else {"fields": plain}


def _plain(value: object, depth: int) -> object:
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if depth >= _DEPTH_MAX:
        return "..."
    if isinstance(value, dict):
        return {_text(str(key)): _field(str(key), each, depth) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, Secret):
        return _HIDDEN
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 63 else str(value)  # JSON readers lose larger ones
    return repr(value)


def _text(value: str) -> str:
    return value.encode(errors="replace").decode()  # half a surrogate pair is not JSON


def _field(key: str, value: object, depth: int) -> object:
    return _HIDDEN if _SECRET_KEY.search(key) else _plain(value, depth + 1)
