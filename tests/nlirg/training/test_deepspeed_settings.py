"""What DeepSpeed is told, and that real DeepSpeed trains the same with every preset."""

import json

import pytest
import torch
from torch import nn
from transformers.integrations import HfDeepSpeedConfig

from cluster.deepspeed.presets import read_deepspeed_json
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models.loading import load_model
from nlirg.training.deepspeed_settings import BUCKET_ELEMENTS, deepspeed_settings

TRAIN = TrainConfig(precision="bf16", zero_stage=2, batch_size=8, num_workers=2, learning_rate=1e-4)

# A file as transformers' documentation prints it, with everything left to the trainer.
ALL_AUTO = {
    "fp16": {
        "enabled": "auto",
        "loss_scale": 0,
        "loss_scale_window": 500,
        "initial_scale_power": 12,
        "hysteresis": 2,
        "min_loss_scale": 1,
    },
    "bf16": {"enabled": "auto"},
    "optimizer": {
        "type": "AdamW",
        "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"},
    },
    "scheduler": {
        "type": "WarmupCosineLR",
        "params": {"total_num_steps": "auto", "warmup_num_steps": "auto"},
    },
    "zero_optimization": {
        "stage": 3,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
        "overlap_comm": True,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_max_live_parameters": 1e9,
    },
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "steps_per_print": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "wall_clock_breakdown": False,
}


def built(user=None, on_cpu=False, **changes):
    return deepspeed_settings(TRAIN.model_copy(update=changes), 2, on_cpu, user)


def refusal(user, **changes) -> str:
    with pytest.raises(InputError) as caught:
        built(user, **changes)
    message = str(caught.value)
    assert message.startswith("train.deepspeed: ")
    assert "\n" not in message
    return message


def test_deepspeed_sees_batches_of_one_whatever_the_recipe_says() -> None:
    settings = built(batch_size=32, micro_batch_size=4, gradient_accumulation_steps=3)
    assert settings["train_batch_size"] == 2  # the world size
    assert settings["train_micro_batch_size_per_gpu"] == 1
    assert settings["gradient_accumulation_steps"] == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_at_most_one_half_precision_is_on(precision: str) -> None:
    settings = built(precision=precision)
    assert settings["bf16"]["enabled"] == (precision == "bf16")
    assert settings["fp16"]["enabled"] == (precision == "fp16")
    assert settings["fp16"]["loss_scale"] == 0  # dynamic


def test_clipping_is_the_engines_own_at_stage_0() -> None:
    assert built(max_grad_norm=0.5)["gradient_clipping"] == 0.5
    assert built(max_grad_norm=None)["gradient_clipping"] == 0.0
    assert built(max_grad_norm=0.5, zero_stage=0, precision="fp32")["gradient_clipping"] == 0.0


def test_communication_overlaps_only_where_there_are_streams() -> None:
    assert built()["zero_optimization"]["overlap_comm"] is True
    assert built(on_cpu=True)["zero_optimization"]["overlap_comm"] is False


def test_a_file_that_leaves_everything_to_the_trainer_is_taken() -> None:
    settings = built(ALL_AUTO, zero_stage=3)
    assert "auto" not in json.dumps(settings)
    assert "optimizer" not in settings
    assert "scheduler" not in settings
    zero = settings["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "cpu", "pin_memory": True}
    assert zero["reduce_bucket_size"] == BUCKET_ELEMENTS
    assert zero["stage3_max_live_parameters"] == 1e9
    assert settings["fp16"]["initial_scale_power"] == 12
    assert settings["zero_force_ds_cpu_optimizer"] is False
    expected = built(zero_stage=3)
    for key in ("train_batch_size", "gradient_clipping", "bf16", "steps_per_print"):
        assert settings[key] == expected[key]


def test_the_users_file_is_not_changed() -> None:
    user = {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}}
    before = json.dumps(user)
    built(user)["zero_optimization"]["offload_optimizer"]["device"] = "changed"
    assert json.dumps(user) == before


def test_nothing_and_empty_sections_change_nothing() -> None:
    assert built(None) == built({}) == built({"zero_optimization": {}, "bf16": {}})


def test_the_users_bucket_wins() -> None:
    settings = built({"zero_optimization": {"reduce_bucket_size": 1234}})
    assert settings["zero_optimization"]["reduce_bucket_size"] == 1234
    assert settings["zero_optimization"]["stage"] == 2


@pytest.mark.parametrize(
    ("user", "key", "recipe"),
    [
        ({"zero_optimization": {"stage": 3}}, "zero_optimization.stage is 3", "train.zero_stage"),
        ({"train_batch_size": 64}, "train_batch_size is 64", "train.batch_size) it is 8"),
        ({"train_micro_batch_size_per_gpu": 1}, "per_gpu is 1", "train.micro_batch_size) it is 4"),
        ({"gradient_accumulation_steps": 8}, "steps is 8", "train.gradient_accumulation_steps"),
        ({"gradient_clipping": 0.3}, "gradient_clipping is 0.3", "train.max_grad_norm) it is 1.0"),
        ({"bf16": {"enabled": False}}, "bf16.enabled is False", "train.precision"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is True", "train.precision"),
        ({"steps_per_print": 2000}, "steps_per_print is 2000", "train.log_every"),
        ({"optimizer": {"type": "Lamb"}}, "optimizer.type is Lamb", "AdamW"),
        ({"optimizer": {"params": {"lr": 1e-3}}}, "params.lr is 0.001", "train.learning_rate"),
        ({"scheduler": {"type": "WarmupLR"}}, "scheduler.type is WarmupLR", "train.schedule"),
    ],
)
def test_a_contradiction_names_both_values_and_the_recipes_key(user, key, recipe) -> None:
    message = refusal(user)
    assert key in message
    assert recipe in message


@pytest.mark.parametrize(
    "user",
    [
        {"zero_optimization": {"stage": 2}, "bf16": {"enabled": True}},
        {"train_batch_size": 8, "train_micro_batch_size_per_gpu": 4},
        {"gradient_accumulation_steps": 1, "gradient_clipping": 1},
        {"optimizer": {"type": "AdamW", "params": {"lr": 1e-4, "weight_decay": 0}}},
        {"scheduler": {"type": "WarmupCosineLR"}},
    ],
)
def test_saying_what_the_recipe_says_changes_nothing(user) -> None:
    assert built(user) == built()


@pytest.mark.parametrize(
    ("user", "complaint"),
    [
        ({"zero_optimisation": {"stage": 2}}, "did you mean zero_optimization?"),
        ({"elasticity": {"enabled": True}}, "elasticity is not passed on"),
        ({"activation_checkpointing": {"cpu_checkpointing": True}}, "train.gradient_checkpointing"),
        ({"bfloat16": {"enabled": True}}, "write bf16"),
        ({"zero_optimization": {"cpu_offload": True}}, "write offload_optimizer"),
        ({"zero_optimization": {"zenflow": {"topk_ratio": 0.1}}}, "stale gradients"),
        ({"bf16": {"check_grad_overflow": False}}, "the trainer needs True"),
        ({"zero_optimization": {"compute_grad_norm": False}}, "the trainer needs True"),
        ({"zero_force_ds_cpu_optimizer": True}, "the trainer needs False"),
        ({"scheduler": {"params": {"warmup_num_steps": 10}}}, "leave scheduler out"),
        ({"zero_optimization": 2}, "must be an object"),
        ({"zero_optimization": {"offload_optimizer": "cpu"}}, "must be an object"),
        ({"optimizer": "AdamW"}, "must be an object"),
    ],
)
def test_what_deepspeed_would_ignore_or_the_trainer_cannot_keep(user, complaint) -> None:
    assert complaint in refusal(user)


@pytest.mark.parametrize(
    ("what", "device", "stage"),
    [
        ("offload_optimizer", "cpu", 1),
        ("offload_optimizer", "nvme", 3),
        ("offload_param", "cpu", 3),
        ("offload_param", "nvme", 3),
    ],
)
def test_offloading_below_its_stage_is_refused(what: str, device: str, stage: int) -> None:
    user = {"zero_optimization": {what: {"device": device, "nvme_path": "/local_nvme"}}}
    assert what in built(user, zero_stage=stage)["zero_optimization"]
    message = refusal(user, zero_stage=stage - 1, precision="fp32")
    assert f"set train.zero_stage={stage}" in message


def test_nvme_needs_a_path() -> None:
    user = {"zero_optimization": {"offload_optimizer": {"device": "nvme"}}}
    assert "nvme_path" in refusal(user, zero_stage=3)


def test_fp32_accumulation_of_bf16_gradients_needs_stage_2() -> None:
    user = {"data_types": {"grad_accum_dtype": "fp32"}}
    assert built(user, zero_stage=2)["data_types"] == {"grad_accum_dtype": "fp32"}
    assert "train.zero_stage=2" in refusal(user, zero_stage=1)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 4))


def batches():
    draw = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 16, generator=draw), torch.randn(6, 4, generator=draw)) for _ in "123"]


def trained_by_torch(train: TrainConfig) -> torch.Tensor:
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=train.learning_rate, weight_decay=0.0)
    for inputs, targets in batches():
        optimizer.zero_grad()
        (model(inputs) - targets).square().sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.max_grad_norm)
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def trained_by_deepspeed(train: TrainConfig, user, micro_batches: int = 1) -> torch.Tensor:
    import deepspeed

    model = network()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=train.learning_rate, weight_decay=0.0, fused=True
    )
    settings = deepspeed_settings(train, 1, True, user)
    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=settings)
    for inputs, targets in batches():
        parts = list(zip(inputs.chunk(micro_batches), targets.chunk(micro_batches), strict=True))
        for index, (x, y) in enumerate(parts):
            engine.set_gradient_accumulation_boundary(index == len(parts) - 1)
            engine.backward((engine(x) - y).square().sum())
        if train.zero_stage == 0:
            nn.utils.clip_grad_norm_(engine.module.parameters(), train.max_grad_norm)
        engine.step()
    weights = []
    for parameter in engine.module.parameters():
        with deepspeed.zero.GatheredParameters([parameter]):
            weights.append(parameter.detach().clone().flatten())
    return torch.cat(weights)


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize(
    "name", ["zero0", "zero1", "zero2", "zero3", "zero2_cpu_offload", "zero3_cpu_offload"]
)
def test_every_preset_trains_what_plain_torch_does(name: str, micro_batches: int) -> None:
    train = TrainConfig(
        precision="fp32", zero_stage=int(name[4]), learning_rate=1e-2, max_grad_norm=1.0
    )
    mine = trained_by_deepspeed(train, read_deepspeed_json(name), micro_batches)
    torch.testing.assert_close(mine, trained_by_torch(train), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("one_rank")
def test_deepspeed_accepts_a_file_that_leaves_everything_to_the_trainer() -> None:
    train = TrainConfig(precision="fp32", zero_stage=3, learning_rate=1e-2, max_grad_norm=1.0)
    mine = trained_by_deepspeed(train, ALL_AUTO)
    torch.testing.assert_close(mine, trained_by_torch(train), rtol=0, atol=1e-6)


@pytest.mark.usefixtures("one_rank")
def test_a_model_sharded_as_it_is_read_predicts_as_the_whole_one(tiny_model_dir) -> None:
    """DeepSpeed builds it in bf16, rotary frequencies included, which must stay float32."""
    import deepspeed

    train = TrainConfig(precision="bf16", zero_stage=3)
    settings = deepspeed_settings(train, 1, True)
    sharding = HfDeepSpeedConfig(settings)  # transformers shards while it lives
    sharded = load_model(str(tiny_model_dir), torch.bfloat16)
    del sharding
    optimizer = torch.optim.AdamW(sharded.parameters())
    engine, *_ = deepspeed.initialize(model=sharded, optimizer=optimizer, config=settings)
    whole = load_model(str(tiny_model_dir), torch.bfloat16)
    ids = torch.arange(5, 300)[None]
    assert torch.equal(engine(input_ids=ids).logits, whole(input_ids=ids).logits)
    for (name, mine), (_, theirs) in zip(
        sharded.named_buffers(), whole.named_buffers(), strict=True
    ):
        assert mine.dtype == torch.float32
        assert torch.equal(mine, theirs), name
