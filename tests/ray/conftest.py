"""One local Ray cluster for every test of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.config import ClusterConfig
from cluster.session import connect, disconnect
from tests.tiny_model import save_qwen3


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """The cluster that a run without an address starts for itself."""
    connect(ClusterConfig())
    yield
    disconnect()


@pytest.fixture(scope="session")
def base(tiny_tokenizer, tmp_path_factory) -> Path:
    """A random Qwen3 of a head size that vLLM has on CPU."""
    path = tmp_path_factory.mktemp("base")
    return save_qwen3(path, tiny_tokenizer, head_dim=32, initializer_range=0.2)
