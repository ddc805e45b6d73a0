"""Log lines: JSON whatever is logged, and nothing secret in them."""

import json
import logging
from io import StringIO

import msgspec
import pytest

from shared.runtime.logs import log, redact, setup_logging


class Sample(msgspec.Struct):
    size: int
    signature: str


@pytest.fixture
def lines():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    stream = StringIO()
    setup_logging("risk", "INFO", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def test_a_line_is_an_event_with_its_fields(lines) -> None:
    log(logging.getLogger("services.risk"), logging.INFO, "order_refused", actual=5, limit=4)
    (line,) = lines()
    assert line["event"] == "order_refused"
    assert (line["service"], line["level"], line["actual"], line["limit"]) == ("risk", "INFO", 5, 4)
    assert line["ts"].endswith("Z")
    assert list(line)[:4] == ["ts", "level", "service", "event"]


@pytest.mark.parametrize(
    "value",
    [object(), b"\xff", {1, 2}, {"a": {"b": (1, None)}}, 1 << 200, -(1 << 70), float("nan"),
     float("inf"), ValueError("x"), "line\nbreak\x00\ud800", {"\udfff": 4}, Sample(1, "s")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_whatever_is_logged_is_one_line_of_json(lines, value: object) -> None:
    log(logging.getLogger("x"), logging.INFO, "odd", value=value)
    (line,) = lines()
    assert "value" in line


def test_a_field_cannot_pretend_to_be_the_envelope(lines) -> None:
    log(logging.getLogger("x"), logging.INFO, "real", service="forged", ts="never")
    assert lines()[0]["service"] == "risk"


def test_a_cycle_does_not_hang_the_service(lines) -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop
    log(logging.getLogger("x"), logging.INFO, "cycle", loop=loop)
    assert len(lines()) == 1


@pytest.mark.parametrize(
    "key",
    ["secret", "api_secret", "passphrase", "private_key", "privateKey", "signature", "Password",
     "POLY_SIGNATURE", "api_key", "Authorization"],
)  # fmt: skip
def test_a_secret_is_hidden_by_the_name_of_its_key(key: str) -> None:
    assert redact({key: "v"}) == {key: "***"}
    assert redact({"a": [{"b": {key: {"deep": "v"}}}]}) == {"a": [{"b": {key: "***"}}]}


def test_structs_are_looked_into() -> None:
    assert redact({"order": Sample(5, "0xfeed")}) == {"order": {"size": 5, "signature": "***"}}


def test_what_only_sounds_like_a_secret_is_shown() -> None:
    fields = {"signature_type": 3, "token": "123", "wallet": "0xab"}
    assert redact(fields) == fields


def test_below_its_level_nothing_is_written(lines) -> None:
    log(logging.getLogger("x"), logging.DEBUG, "frame", size=1)
    assert lines() == []


def test_foreign_loggers_speak_json_too_with_their_traceback(lines) -> None:
    try:
        raise KeyError("k")  # noqa: TRY301
    except KeyError:
        logging.getLogger("nats").exception("lost %s", "it")
    (line,) = lines()
    assert line["event"] == "lost it"
    assert "KeyError" in line["traceback"]


def test_setting_up_twice_does_not_double_lines(lines) -> None:
    stream = StringIO()
    setup_logging("risk", stream=stream)
    log(logging.getLogger("x"), logging.INFO, "once")
    assert len(stream.getvalue().splitlines()) == 1
    assert lines() == []
