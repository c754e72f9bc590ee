"""The cache of prefixes: what ranks keep of it, and which models can have one."""

import numpy as np
import pytest
import torch
from transformers import DynamicCache, MistralConfig

from nlirg.errors import InputError
from nlirg.forward.batching import Row, TokenizedSample
from nlirg.forward.cached_context import ContextCache, check_cacheable
from nlirg.forward.windows import Window


def prefix(cache, slot, length, value):
    """Have a cache hold `length` keys of a slot's only layer, all `value`."""
    ids = np.arange(length + 1)
    sample = TokenizedSample(ids, ids, np.empty(0), np.array([length + 1]), 0)
    keys = torch.full((1, 2, length, 4), value)
    row = Row(sample, Window(length, length + 1), slot=slot)
    cache.extend([row], DynamicCache([(keys, keys)]))


def test_a_rank_reads_the_prefixes_of_its_own_slots_alone(tmp_path):
    """Else it would save those of other ranks again, and later they would pass for the newest."""
    for rank in range(2):
        cache = ContextCache(0)
        for slot in (rank, rank + 2):
            prefix(cache, slot, 5 + slot, float(slot))
        cache.save(tmp_path / f"context-{rank}.pt")
    files = sorted(tmp_path.glob("context-*.pt"))
    for world in (1, 2, 4):
        for rank in range(world):
            resumed = ContextCache(0)
            resumed.load(files, torch.device("cpu"), lambda s, r=rank, w=world: s % w == r)
            assert sorted(resumed.prefixes) == list(range(rank, 4, world))
            for slot, held in resumed.prefixes.items():
                (keys, _), *others = held.layers
                assert not others
                assert torch.equal(keys, torch.full((2, 5 + slot, 4), float(slot)))


def test_sliding_windows_are_refused_however_the_model_names_them():
    check_cacheable(MistralConfig(sliding_window=None))
    with pytest.raises(InputError, match="sliding_attention"):
        check_cacheable(MistralConfig(sliding_window=64))
