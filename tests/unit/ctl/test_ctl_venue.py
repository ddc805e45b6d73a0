"""`driftless venue`: what it prints is enough for a client, and it ends as it should."""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from py_clob_client_v2.client import ClobClient
from py_clob_client_v2.clob_types import BalanceAllowanceParams

from services.ctl.__main__ import run
from services.ctl.errors import FINDING, USAGE
from services.paper_venue.keyring import keyring
from tests.support.eventually import eventually_sync

# What the unified client (polymarket-client 0.14.0) derives from the keys of seeds 1 and 7.
DERIVED = {
    1: (
        "0x5edA1713CAcCE1b2Df854048Cb9e2ec254392477",
        "0x5b5d9886005d32D77DD8ddbFD181Ee9F2A855B4b",
        "0x919d8b43469D23763b2CC01200c9bF006B04bb62",
        "0xA36a07F39FAF5C0B1F2d506b6C5C7Db8DF251322",
    ),
    7: (
        "0xd8dF8A0c98A7bd267215084a305d958FCA0b04dD",
        "0x031098a6e81C2bd9c7025159ba3B2080cc96412b",
        "0xD988817E448336EF0788C4328494cdf38b690b54",
        "0xeda26CC816b21B8552060441d20728E77dB355B5",
    ),
}
MINE, OWNER = "0x" + "d" * 40, "0x" + "e" * 40


class Started:
    """The command as a process, and what it printed."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "services.ctl", "venue", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.out = self.process.stdout

    def told(self) -> dict[str, Any]:
        lines = [self.out.readline()]
        while lines[-1] != "}\n":
            assert lines[-1], "it ended before it had said everything"
            lines.append(self.out.readline())
        told: dict[str, Any] = json.loads("".join(lines))
        return told

    def stop(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=10)


@pytest.fixture
def started() -> Iterator[Started]:
    running = Started(
        "--json", "--markets", "5", "--seed", "7", "--usd", "250.5",
        "--leaders", "synthetic:maker,scalper", "--fund", f"{MINE}@{OWNER}=77",
    )  # fmt: skip
    yield running
    running.process.kill()
    running.process.wait()
    running.out.close()


@pytest.mark.parametrize("seed", DERIVED)
def test_the_wallets_are_those_that_clients_derive(seed: int) -> None:
    assert keyring(seed).wallets == DERIVED[seed]
    assert keyring(seed).private_key != keyring(seed + 1).private_key


def test_a_client_needs_no_more_than_what_is_printed(started: Started) -> None:
    told = started.told()
    urls, key = told["urls"], told["test_key"]
    assert (told["chain_id"], key["address"]) == (137, DERIVED[7][0])
    assert [each["wallet"] for each in key["wallets"]] == list(DERIVED[7])
    assert {each["usd"] for each in key["wallets"]} == {250.5}
    assert told["funded"] == [{"wallet": MINE, "owner": OWNER, "usd": 77}]

    for kind, each in enumerate(key["wallets"]):
        client = ClobClient(
            urls["clob"], told["chain_id"], key["private_key"],
            signature_type=kind, funder=each["wallet"],
        )  # fmt: skip
        client.set_api_creds(client.create_or_derive_api_key())
        asked = BalanceAllowanceParams(asset_type="COLLATERAL", signature_type=kind)
        assert client.get_balance_allowance(asked)["balance"] == "250500000"
    eventually_sync(lambda: len(httpx.get(f"{urls['gamma']}/markets").json()) == 5, deadline_s=10)
    assert started.stop() == 0


def test_the_snippet_for_the_official_client_runs_as_printed(started: Started) -> None:
    told = started.told()
    gamma = f"{told['urls']['gamma']}/markets"
    eventually_sync(lambda: len(httpx.get(gamma).json()) == 5, deadline_s=10)
    pasted = [sys.executable, "-c", told["snippets"]["py-clob-client-v2"]]
    done = subprocess.run(pasted, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "'status': 'live'" in done.stdout
    compile(told["snippets"]["polymarket-client"], "snippet", "exec")


def test_people_see_addresses_key_and_snippets() -> None:
    running = Started("--tape", "none", "--leaders", "none")
    lines: list[str] = []
    while not lines or not lines[-1].startswith("ready: Ctrl-C"):
        lines.append(running.out.readline())
        assert lines[-1], "it ended before it was ready"
    page = "".join(lines)
    assert running.stop() == 0
    running.out.close()
    for part in ("/ws/user", "/rtds", "/rpc", "/admin/page", *DERIVED[1]):
        assert part in page
    assert keyring(1).private_key in page
    assert "worth nothing anywhere else" in page


def test_a_taken_port_is_one_line_that_names_the_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run(["venue", "--port", str(port), "--tape", "none"]) == FINDING
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == f"driftless: port {port} is taken: --port N, or --port 0 for a free one\n"


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--leaders", "synthetic:nobody"], "synthetic:KIND,KIND of splitter, flipper"),
        (["--fund", "0x12=3"], "0xWALLET=USD or 0xWALLET@0xOWNER=USD"),
        (["--usd", "many"], "--usd many: dollars"),
        (["--usd", "-1"], "not less than 0"),
        (["--tape", "absent.jsonl"], "absent.jsonl: cannot be read"),
        (["--markets", "3", "--tape", "a.jsonl"], "drop --tape or --markets"),
        (["--scenario", "absent.toml", "--port", "0", "--tape", "none"], "absent.toml"),
        (["--settings", "absent.json"], "absent.json"),
        (["--settings", "odd.json"], "`hosts`"),
        (["--port", "70000"], "65535"),
        (["--host", "0.0.0.0"], "No such option"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], part: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "odd.json").write_text('{"hosts": "x"}')
    assert run(["venue", *options]) == USAGE
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert part in line
