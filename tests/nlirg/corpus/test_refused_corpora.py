"""Corpora that the trainer refuses, in one line that says what to do."""

import numpy as np
import pytest
import torch

from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.forward.batching import EncodedCorpus
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model, load_tokenizer
from nlirg.training.trainer import Trainer
from tests.torch_engine import TorchEngine

IDS = np.arange(5, 15)


def refusal(path, row, trained, **settings):
    config = TrainConfig(precision="fp32", zero_stage=0, **settings)
    engine = TorchEngine(load_model(str(path), torch.float32), load_tokenizer(str(path)), config)
    with pytest.raises(InputError) as refused:
        Trainer(engine, EncodedCorpus([row], np.array([trained])), config, 0)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def test_a_corpus_without_a_trained_token(tiny_model_dir):
    row = {"input_ids": IDS, "labels": np.full_like(IDS, IGNORE)}
    assert "no trained token" in refusal(tiny_model_dir, row, 0)


def test_packed_documents_with_a_cached_prefix(tiny_model_dir):
    row = {"input_ids": IDS, "labels": IDS, "segments": np.array([4, 6])}
    said = refusal(tiny_model_dir, row, len(IDS), gradient_context=2)
    assert "train.gradient_context 2" in said


def test_stm_without_the_base_models_losses(tiny_model_dir):
    row = {"input_ids": IDS, "labels": IDS}
    said = refusal(tiny_model_dir, row, len(IDS), weighting="stm")
    assert "train.weighting stm" in said
    assert "run score and encode again" in said
