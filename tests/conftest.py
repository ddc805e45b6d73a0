"""Servers for the whole suite: one pair a test process, started on free ports."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from services.ctl.servers import LocalServers
from tests.support.servers import session_servers

settings.register_profile("driftless", deadline=None)  # a busy machine refutes no law
settings.load_profile("driftless")


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServers]:
    """Run NATS and Valkey with the deployed configuration until the session ends."""
    with session_servers(tmp_path_factory.mktemp("servers")) as running:
        yield running
