"""One local Ray cluster for every test of this folder."""

from collections.abc import Iterator

import pytest

from cluster.config import ClusterConfig
from cluster.session import connect, disconnect


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The cluster that a run without an address starts for itself."""
    connect(ClusterConfig())
    yield
    disconnect()
