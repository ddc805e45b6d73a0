"""One venue a module, as a process: clients know its address and nothing else of it."""

from collections.abc import Iterator

import pytest

from tests.clients.local_venue import LocalVenue, local_venue


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalVenue]:
    with local_venue(tmp_path_factory.mktemp("venue")) as running:
        yield running
