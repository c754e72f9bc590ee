"""Training that is killed at the worst moments ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from nlirg.errors import InputError
from tests.ray import faults
from tests.ray.test_train import assert_close, encoded_run, recipe, reference
from tests.road import train_arm

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "num_workers": 1,
    "epochs": 2,
    "max_steps": 60,
    "checkpoint_every": 8,
    "log_every": 4,
    "weighting": "uniform",
}
ARMS = {
    "lora": {
        "lora": {"rank": 2, "dropout": 0.1},
        "zero_stage": 2,
        "gradient_accumulation_steps": 2,
    },
    # Cached prefixes, the best loss and the patience are part of where a run is.
    "cached": {
        "zero_stage": 1,
        "gradient_context": 0,
        "schedule": "constant",
        "learning_rate": 6e-2,
        "validation": {"rows": 6, "every": 4, "patience": 2, "keep": "best"},
    },
}
WORLD = {"max_steps": 60, "checkpoint_every": 6, "log_every": 3, "max_failures": 0}


def weights(arm):
    return load_file(next((arm / "model").glob("*.safetensors")))


def assert_equal(arm, unbroken):
    tensors, expected = weights(arm), weights(unbroken)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]), name


def plant_partial_checkpoint(arm):
    """A checkpoint that looks later than all others, as a killed save would leave it."""
    folder = arm / "checkpoints" / "step-99999999"
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "mp_rank_00_model_states.pt").write_bytes(b"half")
    (folder / "progress.json").write_text('{"step": 99999999, "trained_tok')
    return folder


@pytest.fixture(scope="module")
def unbroken(ray_cluster, tiny_model_dir, tmp_path_factory):
    """Folder and summary of an arm that was trained without a fault."""
    run = encoded_run(tmp_path_factory.mktemp("unbroken"), samples=60)
    plain = recipe(tiny_model_dir, ARMS, **SETTINGS)
    return {arm: (run.arm(arm).path, train_arm(plain, arm, run)) for arm in ARMS}


@pytest.mark.soak
@pytest.mark.parametrize("arm", ARMS)
def test_a_worker_killed_in_mid_save_and_in_mid_training(unbroken, tiny_model_dir, tmp_path, arm):
    run = encoded_run(tmp_path, samples=60)
    folder = run.arm(arm).path
    saboteur = faults.Saboteur(
        partial(faults.kill_in_mid_save, folder, 12),
        partial(faults.kill_in_mid_training, folder, 26),
    )
    saboteur.start()
    summary = train_arm(recipe(tiny_model_dir, ARMS, **SETTINGS), arm, run)
    left, step = saboteur.fired
    assert "progress.json" not in left
    assert step > 26
    assert summary.resumed_from >= 8
    other, expected = unbroken[arm]
    changing = {"seconds", "resumed_from"}
    assert summary.model_dump(exclude=changing) == expected.model_dump(exclude=changing)
    assert_equal(folder, other)
    kept = sorted((folder / "checkpoints").glob("step-*"))
    assert [path.name for path in kept] == [
        path.name for path in sorted((other / "checkpoints").glob("step-*"))
    ], "what killed saves left is gone"


@pytest.mark.soak
def test_the_whole_driver_killed_and_started_again(unbroken, tiny_model_dir, tmp_path):
    run = encoded_run(tmp_path, samples=60)
    arm = run.arm("lora").path
    written = recipe(tiny_model_dir, {"lora": ARMS["lora"]}, **SETTINGS)
    settings = written.model_dump(mode="json") | {"storage": str(tmp_path)}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "pipelines", "train", str(tmp_path / "recipe.yaml")]
    with (tmp_path / "log").open("w") as log:
        driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while not (faults.done_steps(arm) > 24 and faults.saved_steps(arm)):
            assert driver.poll() is None, "the run ended before it could be killed"
            time.sleep(0.001)
        saved = faults.saved_steps(arm)
        os.kill(driver.pid, signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
    assert not run.arm("lora").marker.exists()
    worker = faults.first_worker(arm)
    # What the index is if the machine stops while it is being written.
    (arm / "checkpoints" / "checkpoint_manager_snapshot.json").write_text('{"checkpoint_re')
    planted = plant_partial_checkpoint(arm)
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=240)
    assert not faults.alive(worker), "a worker of the killed run lives on"
    assert run.arm("lora").summary()["resumed_from"] >= saved[0] > 0
    assert_equal(arm, unbroken["lora"][0])
    assert not planted.exists()


def interrupted(settings, arm, run):
    """Train until a worker is killed for good; returns the steps that were saved."""
    folder = run.arm(arm).path
    saboteur = faults.Saboteur(partial(faults.kill_in_mid_training, folder, 12))
    saboteur.start()
    with pytest.raises(InputError, match=r"training in .* failed") as refused:
        train_arm(settings, arm, run)
    saboteur.join()
    assert saboteur.fired, "the run failed before a worker could be killed"
    assert len(str(refused.value).splitlines()) == 1
    return faults.saved_steps(folder)


@pytest.mark.soak
def test_at_stage_0_another_number_of_workers_continues(ray_cluster, tiny_model_dir, tmp_path):
    run, arm = encoded_run(tmp_path, samples=60), {"a": {"zero_stage": 0, "gradient_context": 0}}
    saved = interrupted(recipe(tiny_model_dir, arm, **WORLD, num_workers=2), "a", run)
    fewer = recipe(tiny_model_dir, arm, **WORLD, num_workers=1)
    summary = train_arm(fewer, "a", run)
    assert summary.resumed_from in saved
    expected, trained = reference(fewer, "a", run, tmp_path / "reference")
    assert_close(run.arm("a").path / "model", expected)
    assert summary.trained_tokens == trained


@pytest.mark.soak
def test_at_stage_2_another_number_of_workers_is_refused(ray_cluster, tiny_model_dir, tmp_path):
    run, arm = encoded_run(tmp_path, samples=60), {"a": {"zero_stage": 2}}
    two = recipe(tiny_model_dir, arm, **WORLD, num_workers=2)
    saved = interrupted(two, "a", run)
    with pytest.raises(InputError, match=r"ZeRO shards of 2 workers.*train\.num_workers=2") as no:
        train_arm(recipe(tiny_model_dir, arm, **WORLD, num_workers=1), "a", run)
    assert len(str(no.value).splitlines()) == 1
    assert faults.saved_steps(run.arm("a").path) == saved
    summary = train_arm(two, "a", run)
    assert summary.resumed_from in saved
    expected, _ = reference(two, "a", run, tmp_path / "reference")
    assert_close(run.arm("a").path / "model", expected)


def test_what_only_a_worker_can_refuse_is_one_line_too(
    ray_cluster, tiny_model_dir, tmp_path, capfd
):
    run = encoded_run(tmp_path)
    half = recipe(tiny_model_dir, {"a": {}}, num_workers=1, precision="fp16", zero_stage=2)
    with pytest.raises(InputError, match=r"^train\.precision: DeepSpeed has no fp16") as refused:
        train_arm(half, "a", run)
    assert len(str(refused.value).splitlines()) == 1
    assert "Traceback" not in capfd.readouterr().err
    assert not run.arm("a").marker.exists()
