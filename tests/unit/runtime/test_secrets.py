"""Secrets: no way of showing, copying or encoding one gives it away."""

import copy
import json
import logging
import pickle
import traceback
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from shared.runtime.logs import log, setup_logging
from shared.runtime.secrets import (
    Secret,
    SecretError,
    read_private_key,
    read_relayer_key,
    read_secret,
)

VALUE = "hunter2-hunter2"
KEY = "0x" + "5e" * 32


@pytest.mark.parametrize(
    "show",
    [repr, str, "{}".format, "{!r:>40}".format, lambda s: f"{[s]}", lambda s: "%s" % s],  # noqa: UP031
)
def test_no_text_form_shows_it(show) -> None:
    assert VALUE not in show(Secret(VALUE))


@pytest.mark.parametrize(
    "encode",
    [
        json.dumps,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        msgspec.to_builtins,
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        vars,
    ],
)
def test_no_encoder_takes_it(encode) -> None:
    with pytest.raises(TypeError) as caught:
        encode(Secret(VALUE))
    assert VALUE not in str(caught.value)


def test_neither_a_traceback_nor_a_log_line_shows_it() -> None:
    stream = StringIO()
    setup_logging("executor", stream=stream)
    secret = Secret(VALUE)
    try:
        raise ValueError(f"cannot sign with {secret}", secret)  # noqa: TRY301
    except ValueError:
        logging.getLogger("x").exception("signing_failed", extra={"fields": {"key": secret}})
        shown = traceback.format_exc()
    log(logging.getLogger("x"), logging.INFO, "started", key=secret, nested=[{"a": secret}])
    assert VALUE not in shown + stream.getvalue()
    assert stream.getvalue().count("***") >= 3


def test_it_is_revealed_on_request() -> None:
    assert Secret(VALUE).reveal() == VALUE


def private(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_password_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = str(private(tmp_path / "p", f"{VALUE}\n"))
    assert read_secret({}, "P") is None
    assert read_secret({"P": VALUE}, "P").reveal() == VALUE
    assert read_secret({"P_FILE": file}, "P").reveal() == VALUE
    with pytest.raises(SecretError, match="not both"):
        read_secret({"P": VALUE, "P_FILE": file}, "P")
    with pytest.raises(SecretError, match="cannot read"):
        read_secret({"P_FILE": str(tmp_path / "absent")}, "P")
    with pytest.raises(SecretError, match="is empty"):
        read_secret({"P_FILE": str(private(tmp_path / "e", " \n"))}, "P")


def test_the_key_is_read_from_exactly_one_place(tmp_path: Path) -> None:
    file = str(private(tmp_path / "key", f"{KEY}\n"))
    variable, named = {"DRIFTLESS_PRIVATE_KEY": KEY[2:]}, {"DRIFTLESS_PRIVATE_KEY_FILE": file}
    for environ, key_file in ((variable, None), (named, None), ({}, file)):
        assert read_private_key(environ, key_file).reveal() == KEY
    for environ, key_file in ((variable, file), (named, file), ({**variable, **named}, None)):
        with pytest.raises(SecretError, match="more than one key"):
            read_private_key(environ, key_file)
    with pytest.raises(SecretError, match="no key: set one of"):
        read_private_key({}, None)


def test_the_relayers_key_is_read_from_one_place_or_none(tmp_path: Path) -> None:
    file = str(private(tmp_path / "relayer", "a-key\n"))
    for environ, key_file in (
        ({"DRIFTLESS_RELAYER_KEY": "a-key"}, None),
        ({"DRIFTLESS_RELAYER_KEY_FILE": file}, None),
        ({}, file),
    ):
        key = read_relayer_key(environ, key_file)
        assert key is not None
        assert key.reveal() == "a-key"
    assert read_relayer_key({}, None) is None
    with pytest.raises(SecretError, match="more than one key"):
        read_relayer_key({"DRIFTLESS_RELAYER_KEY": "a-key"}, file)
    with pytest.raises(SecretError, match="chmod 600"):
        read_relayer_key({}, str(private(tmp_path / "open", "a-key", 0o644)))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = private(tmp_path / "key", KEY, mode)
    with pytest.raises(SecretError, match="chmod 600") as caught:
        read_private_key({}, str(file))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("text", ["0x12", "zz" * 32, KEY + "00", KEY[:-1]])
def test_what_is_no_key_is_refused_unseen(text: str) -> None:
    with pytest.raises(SecretError, match="64 hex digits") as caught:
        read_private_key({"DRIFTLESS_PRIVATE_KEY": text}, None)
    assert text not in str(caught.value)


def test_a_binary_file_is_refused_unseen(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"\xff\xfe" + VALUE.encode())
    file.chmod(0o600)
    with pytest.raises(SecretError, match="is not text") as caught:
        read_private_key({}, str(file))
    assert VALUE not in "".join(traceback.format_exception(caught.value))
