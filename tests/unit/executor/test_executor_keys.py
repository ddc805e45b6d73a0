"""The key comes in once, and nothing shows it or lets it out."""

import os
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from services.executor.keys import take_key
from shared.polymarket.orders import Signer
from shared.runtime.config import AccountConfig, Config, SecretError, VenueConfig
from shared.runtime.secrets import PRIVATE_KEY

KEY = "5c" * 32
WALLET = "0x" + "22" * 20
DUMPS = """
import ctypes, os, resource
from services.executor.keys import forbid_dumps
forbid_dumps()
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
assert ctypes.CDLL(None).prctl(3, 0, 0, 0, 0) == 0  # PR_GET_DUMPABLE
"""


def config(key_file: str | None = None) -> Config:
    return Config(
        mode="paper",
        account=AccountConfig(wallet=WALLET, key_file=key_file),  # type: ignore[arg-type]
        venue=VenueConfig(local_url="http://127.0.0.1:1"),
    )


def test_the_variable_is_gone_once_the_key_is_read() -> None:
    environ = {PRIVATE_KEY: f"0x{KEY}", "OTHER": "stays"}
    assert take_key(config(), environ).reveal() == f"0x{KEY}"
    assert environ == {"OTHER": "stays"}


@pytest.mark.parametrize("text", [f"{KEY}5", KEY[:-1], f"0x{KEY}zz", "hunter2 " + KEY])
def test_a_malformed_key_is_gone_too_and_its_error_does_not_hold_it(text: str) -> None:
    environ = {PRIVATE_KEY: text}
    with pytest.raises(SecretError) as error:
        take_key(config(), environ)
    told = "".join(traceback.format_exception(error.value)) + repr(error.value)
    assert text not in told
    assert KEY[:20] not in told
    assert environ == {}


@pytest.mark.parametrize("text", ["0x" + "0a" * 31, "0x" + "ff" * 32, "0x" + KEY + "00"])
def test_a_number_that_is_no_key_is_not_shown_by_the_library_either(text: str) -> None:
    with pytest.raises(ValueError, match="not a private key") as error:
        Signer.from_hex(text)
    told = "".join(traceback.format_exception(error.value))
    assert text[2:] not in told
    assert str(int(text, 16)) not in told


def test_a_child_process_does_not_inherit_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PRIVATE_KEY, f"0x{KEY}")
    take_key(config(), os.environ)
    told = subprocess.run(["env"], capture_output=True, text=True, check=True).stdout
    assert KEY not in told


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_the_process_leaves_no_image_of_its_memory() -> None:
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", DUMPS], cwd=root, check=True, timeout=30)
