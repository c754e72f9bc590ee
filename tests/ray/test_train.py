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
from pipelines.encode.plan import Apart, PlanRows
from pipelines.recipe import validate
from pipelines.train.data import read_training
from pipelines.train.stage import Train
from tests.pipelines.made_scores import write_tokens
from tests.road import encoded, train, train_arm
from tests.torch_engine import TorchEngine

pytestmark = pytest.mark.ray

IDS = torch.arange(5, 30)[None]


def encoded_run(path, samples=24):
    """A run directory whose corpus of two sources is encoded, and its own answers are there."""
    run = RunDirectory(str(path), "run")
    rng = np.random.default_rng(0)
    write_plan(run, run.encoded.path, run.scores.path / "tokens", samples, rng)
    run.encoded.succeed("encoded", encoded(rows=samples, alone=samples))
    write_plan(run, run.replay.path, run.replay.path / "tokens", 20, rng)
    run.replay.succeed("replay", {"kept": 20})
    return run


def write_plan(run, folder, tokens, samples, rng):
    rows, texts = [], []
    for sample in range(samples):
        ids = rng.integers(3, 300, rng.integers(12, 40)).tolist()
        labels, losses = [IGNORE] * 5 + ids[5:], [1.0] * (len(ids) - 5)
        texts.append({"row_index": sample, "input_ids": ids, "labels": labels})
        texts[-1] |= {"token_loss": losses, "token_entropy": losses}
        rows.append({"id": str(sample), "row_index": sample, "task_type": "ab"[sample % 2]})
        rows[-1] |= {"sample_tokens": [len(ids)], "sample_trained": [len(ids) - 5]}
        rows[-1]["data"] = int(sample % 5 == 0)
    folder.mkdir(parents=True)
    for part in range(2):
        planned = PlanRows(None, frozenset(), Apart(np.empty(0, np.int64), (0, 1)))
        plan = planned(pa.Table.from_pylist(rows[part::2]))
        pq.write_table(plan, folder / f"part-{part}.parquet")
        write_tokens(tokens, f"{part}.arrow", texts[part::2])


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
            "data": ["unused.jsonl", {"path": "general.jsonl", "weight": 0.3}],
            "train": settings | train_settings,
            "arms": arms,
        },
        "test",
    )


def reference(the_recipe, arm, run, folder):
    """The same training in this process with plain torch: tensors, progress and last record."""
    config = the_recipe.arm(arm)
    set_seed(the_recipe.seed)
    model = load_model(the_recipe.model, torch.float32)
    if config.lora is not None:
        model = add_lora(model, config.lora, the_recipe.model)
    engine = TorchEngine(model, load_tokenizer(the_recipe.model), config)
    data = read_training(Train(arm).job(the_recipe, run))
    trainer = Trainer(
        engine,
        data.corpus,
        config,
        the_recipe.seed,
        mixed=data.mixed,
        known=data.known,
    )
    nothing, records = lambda _: None, []
    progress = trainer.run(Callbacks(records.append, nothing, nothing))
    engine.export(folder / "model")
    tensors = load_file(next((folder / "model").glob("*.safetensors")))
    return tensors, progress, records[-1]


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
    expected, progress, _ = reference(full, "full", run, tmp_path / "reference")
    assert_close(folder / "model", expected)
    loaded = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    assert loaded(IDS).logits.isfinite().all()
    records = read_metrics(folder / "metrics.jsonl")
    assert [record["step"] for record in records] == [2, 4, 6]
    assert records[-1]["trained_tokens"] == summary.trained_tokens == progress.trained_tokens
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
    keeping = {"replay": {"share": 0.3, "objective": "kl"}, "guard": {"rows": 8, "every": 60}}
    lora = recipe(
        tiny_model_dir,
        {"lora": {"lora": {"rank": 2}, **keeping}},
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
    expected, progress, last = reference(lora, "lora", run, tmp_path / "reference")
    assert_close(folder / "model", expected)
    records = read_metrics(folder / "metrics.jsonl")
    due = sorted({*range(10, 181, 10), *range(15, 181, 15)})
    watched = [record for record in records if "general_kl" in record]
    assert [record["step"] for record in watched] == [60, 120, 180]
    assert {record["general_base_loss"] for record in watched} == {progress.start.loss}
    assert watched[-1]["general_kl"] == pytest.approx(last["general_kl"], rel=1e-3)
    assert records[-1]["loss_by_source"].keys() == {"unused", "general", "replay"}
    assert [record["step"] for record in records] == due
    tokens = [record["trained_tokens"] for record in records]
    assert tokens == sorted(tokens)
    assert tokens[-1] == summary.trained_tokens == progress.trained_tokens
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
