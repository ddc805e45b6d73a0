"""In live mode the executor's process itself refuses to start where the probes disagree."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from services.ctl.servers import LocalServers
from shared.runtime.bus import provision
from tests.support.stack import KEY, WALLET

import pytest  # isort: skip
import nats  # isort: skip

pytestmark = pytest.mark.xdist_group("e2e")

_CONFIG = """
mode = "live"
[account]
wallet = "{wallet}"
key_file = "{key}"
[venue]
clob_url = "{base}"
data_url = "{base}"
gamma_url = "{base}"
geoblock_url = "{base}/api/geoblock"
market_ws_url = "wss://127.0.0.1:{port}/ws/market"
user_ws_url = "wss://127.0.0.1:{port}/ws/user"
activity_ws_url = "wss://127.0.0.1:{port}/rtds"
"""


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_live_executor_ends_before_it_takes_a_lane(tmp_path: Path) -> None:
    port, key = closed_port(), tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(KEY)
    base = f"https://127.0.0.1:{port}"
    settings = tmp_path / "live.toml"
    settings.write_text(_CONFIG.format(wallet=WALLET, key=key, base=base, port=port))
    with LocalServers(tmp_path / "servers") as servers:
        ends = servers.endpoints
        client = await nats.connect(
            ends.nats_url, user="ctl", password=ends.password("ctl").reveal(),
            inbox_prefix=b"_INBOX_ctl",
        )  # fmt: skip
        await provision(client)
        await client.close()
        ended = subprocess.run(
            [sys.executable, "-m", "services.executor", "--config", str(settings)],
            env={**os.environ, **ends.environ("executor")},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
    assert ended.returncode == 1
    assert "executor: refused to trade live" in ended.stderr
    assert "geoblock: expected not blocked, saw geoblock: ConnectError; " in ended.stderr
    assert "credentials: expected API credentials for this key" in ended.stderr
    assert "signing" not in ended.stderr.partition("refused to trade live")[2]
    assert KEY[2:] not in ended.stderr
