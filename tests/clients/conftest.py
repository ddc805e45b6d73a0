"""One venue a module, as a process: clients know its address and nothing else of it."""

from collections.abc import Iterator
from itertools import count

import pytest
from polymarket import PublicClient

from tests.clients.local_venue import LocalVenue, local_venue

_numbers = count(0xAB << 152)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVenue]:
    with local_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running


@pytest.fixture(scope="module")
def client(venue: LocalVenue) -> Iterator[PublicClient]:
    with PublicClient(environment=venue.environment) as connected:
        yield connected


@pytest.fixture
def wallet() -> str:
    """A leader nobody has seen before."""
    return f"0x{next(_numbers):040x}"
