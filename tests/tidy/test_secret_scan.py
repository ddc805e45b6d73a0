"""No key, password or credential is in a tracked file."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"  # anvil's account 0
REPEATED = re.compile(r"([0-9a-f]{2})\1{31}")  # one byte 32 times: made up, and plainly so
PLANTED = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SUSPECT = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    re.compile(r"(?i)(?:private.?key|secret|passphrase|mnemonic)\W{1,6}(?:0x)?([0-9a-f]{64})\b"),
    re.compile(r"(?i)://[^/\s:@{}$]+:[^/\s:@{}$]+@"),  # a password in an address
)


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def suspicious(text: str) -> list[str]:
    found = [match.group(0) for pattern in SUSPECT for match in pattern.finditer(text)]
    return [each for each in found if PUBLIC not in each and not REPEATED.search(each)]


def test_no_tracked_file_holds_a_secret() -> None:
    found = {}
    for path in tracked():
        if not path.is_file() or path == Path(__file__) or path.suffix in (".gz", ".lock"):
            continue
        text = path.read_text(encoding="utf-8", errors="ignore")
        if hits := suspicious(text):
            found[str(path.relative_to(ROOT))] = hits
    assert found == {}


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN EC PRIVATE KEY-----",
        f'private_key = "0x{PLANTED}"',
        f"DRIFTLESS_PRIVATE_KEY={PLANTED}",
        "nats://ctl:hunter2@127.0.0.1:4222",
    ],
)
def test_the_scan_sees_a_planted_secret(text: str) -> None:
    assert suspicious(text)
