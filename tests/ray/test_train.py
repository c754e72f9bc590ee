"""Ray Train with two DeepSpeed workers, held against plain torch in one process."""

import os
import signal
import threading
import time

import numpy as np
import peft
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cluster.rundir import RunDirectory
from nlirg.errors import InputError
from nlirg.labels import IGNORE
from nlirg.models.loading import load_model, load_tokenizer
from nlirg.models.lora import add_lora
from nlirg.monitoring.metrics_log import read_metrics
from nlirg.training.engine import set_seed
from nlirg.training.trainer import Callbacks, Trainer
from pipelines.encode.plan import PlanRows
from pipelines.recipe import validate
from pipelines.train.encoded import read_encoded
from tests.pipelines.made_scores import write_tokens
from tests.road import encoded, train, train_arm
from tests.torch_engine import TorchEngine

pytestmark = pytest.mark.ray

IDS = torch.arange(5, 30)[None]


def encoded_run(path, samples=24):
    """A run directory whose corpus is encoded."""
    run = RunDirectory(str(path), "run")
    rng = np.random.default_rng(0)
    rows, tokens = [], []
    for sample in range(samples):
        ids = rng.integers(3, 300, rng.integers(12, 40)).tolist()
        labels, losses = [IGNORE] * 5 + ids[5:], [1.0] * (len(ids) - 5)
        tokens.append({"row_index": sample, "input_ids": ids, "labels": labels})
        tokens[-1] |= {"token_loss": losses, "token_entropy": losses}
        rows.append({"id": str(sample), "row_index": sample, "task_type": "ab"[sample % 2]})
        rows[-1]["data"] = 0
        rows[-1] |= {"sample_tokens": [len(ids)], "sample_trained": [len(ids) - 5]}
    run.encoded.path.mkdir(parents=True)
    for part in range(2):
        planned = PlanRows(None, frozenset(), np.empty(0, np.int64))
        plan = planned(pa.Table.from_pylist(rows[part::2]))
        pq.write_table(plan, run.encoded.path / f"part-{part}.parquet")
        write_tokens(run, f"{part}.arrow", tokens[part::2])
    run.encoded.succeed("encoded", encoded(rows=samples, alone=samples))
    return run


def recipe(model, arms, **train_settings):
    settings = {
        "precision": "fp32",
        "num_workers": 2,
        "learning_rate": 1e-3,
        "batch_size": 4,
        "token_batch": 4,
        "log_every": 2,
    }
    return validate(
        {
            "name": "run",
            "model": str(model),
            "data": ["unused.jsonl"],
            "train": settings | train_settings,
            "arms": arms,
        },
        "test",
    )


def reference(the_recipe, arm, run, folder):
    """The same training in this process with plain torch; returns tensors and trained tokens."""
    config = the_recipe.arm(arm)
    set_seed(the_recipe.seed)
    model = load_model(the_recipe.model, torch.float32)
    if config.lora is not None:
        model = add_lora(model, config.lora, the_recipe.model)
    engine = TorchEngine(model, load_tokenizer(the_recipe.model), config)
    (corpus,) = read_encoded(run.encoded.path, run.scores.path / "tokens")
    trainer = Trainer(engine, corpus, config, the_recipe.seed)
    nothing = lambda _: None  # noqa: E731
    progress = trainer.run(Callbacks(nothing, nothing, nothing))
    engine.export(folder / "model")
    return load_file(next((folder / "model").glob("*.safetensors"))), progress.trained_tokens


def assert_close(folder, expected):
    tensors = load_file(next(folder.glob("*.safetensors")))
    assert tensors.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(tensors[name], value, rtol=1e-5, atol=1e-5, msg=name)


def test_two_workers_at_stage_3_train_what_one_process_does(ray_cluster, tiny_model_dir, tmp_path):
    run = encoded_run(tmp_path)
    full = recipe(tiny_model_dir, {"full": {"zero_stage": 3}}, max_steps=6)
    summary = train(full, run)["full"]
    folder = run.arm("full").path
    assert summary.kind == "full"
    assert summary.optimizer_steps == 6
    expected, tokens = reference(full, "full", run, tmp_path / "reference")
    assert_close(folder / "model", expected)
    loaded = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    assert loaded(IDS).logits.isfinite().all()
    records = read_metrics(folder / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4, 6]
    assert records[-1]["trained_tokens"] == summary.trained_tokens == tokens
    assert list((folder / "tensorboard").iterdir())
    started = time.perf_counter()
    assert train(full, run)["full"] == summary
    assert time.perf_counter() - started < 1, "a finished arm must not be trained again"


def kill_a_worker(checkpoints, killed):
    """SIGKILL a training worker as soon as the second checkpoint is there."""
    import ray
    from ray.util.state import list_actors

    deadline = time.monotonic() + 120
    while len(list(checkpoints.glob("step-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    workers = [
        actor.pid
        for actor in list_actors(
            ray.get_runtime_context().gcs_address, filters=[("state", "=", "ALIVE")]
        )
        if "TrainWorker" in actor.class_name
    ]
    if workers:
        os.kill(workers[-1], signal.SIGKILL)
        killed.append(workers[-1])


def test_a_killed_worker_costs_no_result(ray_cluster, tiny_model_dir, tmp_path):
    run = encoded_run(tmp_path, samples=200)
    lora = recipe(
        tiny_model_dir,
        {"lora": {"lora": {"rank": 2}}},
        zero_stage=2,
        max_steps=180,
        checkpoint_every=15,
        log_every=10,
    )
    folder, killed = run.arm("lora").path, []
    thread = threading.Thread(target=kill_a_worker, args=(folder / "checkpoints", killed))
    thread.start()
    summary = train_arm(lora, "lora", run)
    thread.join()
    assert killed, "the run ended before a worker could be killed"
    assert summary.resumed_from > 0
    assert summary.resumed_from % 15 == 0
    expected, trained = reference(lora, "lora", run, tmp_path / "reference")
    assert_close(folder / "model", expected)
    records = read_metrics(folder / "metrics.jsonl")
    due = sorted({*range(10, 181, 10), *range(15, 181, 15)})
    assert [record["step"] for record in records] == due
    tokens = [record["trained_tokens"] for record in records]
    assert tokens == sorted(tokens)
    assert tokens[-1] == summary.trained_tokens == trained
    base = load_model(str(tiny_model_dir), torch.float32)
    before = base(IDS).logits
    adapted = peft.PeftModel.from_pretrained(base, folder / "model")
    assert not torch.allclose(adapted(IDS).logits, before)
    names = sorted(path.name for path in (folder / "checkpoints").glob("step-*"))
    assert names == ["step-00000150", "step-00000165"], "num_to_keep is 2"


def test_other_settings_than_the_folders_are_refused(tiny_model_dir, tmp_path):
    run = encoded_run(tmp_path)
    run.arm("a").claim("another fingerprint")
    with pytest.raises(InputError, match="unfinished work with other settings"):
        train(recipe(tiny_model_dir, {"a": {}}), run)


def test_the_corpus_must_be_encoded_first(tiny_model_dir, tmp_path):
    with pytest.raises(InputError, match="is not complete: run encode first"):
        train(recipe(tiny_model_dir, {"a": {}}), RunDirectory(str(tmp_path), "run"))
