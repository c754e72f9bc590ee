"""What the comparison of a short context's gradient with the full one rests on."""

import pytest
import torch
from torch import nn

from nlirg.config.training import LoraConfig
from nlirg.training import engine as engine_module
from nlirg.training.engine import spread
from tests.nlirg.training.test_invariances import CONFIG, documents, trained


def test_dropout_does_not_count_as_a_difference(tiny_model_dir):
    """A context longer than every prefix is the full one."""
    lora = LoraConfig(rank=4, dropout=0.3)
    config = CONFIG.model_copy(update={"lora": lora, "gradient_context": 100})
    _, records = trained(tiny_model_dir, config, documents())
    for record in records:
        assert record["gradient_cosine"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("sizes", [[500, 3, 20, 20, 20, 20, 20], [5] * 7, [90, 90, 90], [500]])
def test_a_sample_of_weights_holds_no_more_than_it_may(monkeypatch, sizes):
    monkeypatch.setattr(engine_module, "SAMPLED_ELEMENTS", 100)
    chosen = spread([nn.Parameter(torch.zeros(size)) for size in sizes])
    assert sum(parameter.numel() for parameter in chosen) <= 100
    assert bool(chosen) == (min(sizes) <= 100)
