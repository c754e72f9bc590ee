import pytest
import torch
from safetensors.torch import save_file

from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.models.loading import load_model, model_skeleton
from nlirg.preflight import model_checks


def config(**settings: object) -> TrainConfig:
    return TrainConfig.model_validate({"precision": "fp32", "zero_stage": 1} | settings)


@pytest.fixture
def skeleton(tiny_model_dir) -> object:
    return model_skeleton(str(tiny_model_dir))


@pytest.fixture
def embedding() -> torch.Tensor:
    return torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) + 0.5


def test_shapes_and_embedding_are_those_of_the_model(tiny_model_dir) -> None:
    shapes = model_checks.weight_shapes(tiny_model_dir)
    model = load_model(str(tiny_model_dir), torch.float32)
    assert shapes == {name: tuple(p.shape) for name, p in model.named_parameters()}
    found = model_checks.read_embedding(tiny_model_dir, shapes)
    assert torch.equal(found, model.get_input_embeddings().weight)


def test_damaged_weights_are_named(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"model\.safetensors: damaged"):
        model_checks.weight_shapes(tmp_path)


def test_trained_rows_are_not_suspected(embedding) -> None:
    assert model_checks.untrained_rows(embedding, range(200)) == {}


def test_untrained_rows_are_found_whatever_made_them(embedding) -> None:
    embedding[3] *= 0.001
    embedding[5] = embedding[7]
    embedding[9] = embedding.mean(0) + 1e-4
    embedding[11] = 0
    reasons = model_checks.untrained_rows(embedding, [1, 3, 5, 7, 9, 11])
    assert reasons.keys() == {3, 5, 7, 9, 11}
    assert "norm" in reasons[3]
    assert "another token's" in reasons[5]
    assert "mean" in reasons[9]
    assert model_checks.untrained_rows(embedding.bfloat16(), [1, 3, 11]).keys() == {3, 11}


def test_special_tokens_are_named_with_the_arms_that_cannot_train_them(embedding) -> None:
    names = {4: "<|im_start|>", 5: "<|im_end|>"}
    assert model_checks.check_special_tokens(embedding, names, []).status == "ok"
    embedding[5] = 0
    check = model_checks.check_special_tokens(embedding, names, ["nlirg"])
    assert check.status == "warn"
    assert "<|im_end|>" in check.measured
    assert "<|im_start|>" not in check.measured
    assert "LoRA (nlirg)" in check.advice
    assert "LoRA" not in model_checks.check_special_tokens(embedding, names, []).advice


def test_what_cannot_be_checked_is_never_ok(embedding) -> None:
    assert model_checks.check_special_tokens(None, {1: "<s>"}, []).status == "warn"
    outside = model_checks.check_special_tokens(embedding, {200: "<new>"}, [])
    assert outside.status == "fail"
    assert "<new>" in outside.measured


def test_an_unknown_embedding_name_is_none(tmp_path) -> None:
    save_file({"odd.weight": torch.zeros(3, 2)}, tmp_path / "model.safetensors")
    shapes = model_checks.weight_shapes(tmp_path)
    assert model_checks.read_embedding(tmp_path, shapes) is None


def test_lora_targets_must_exist(skeleton) -> None:
    def check(target: object) -> model_checks.Check | None:
        arms = {"a": config(lora={"target_modules": target})}
        return model_checks.check_lora(arms, skeleton, "tiny")

    for target, layers in (("all-linear", 14), (["q_proj"], 2), (["self_attn.q_proj"], 2)):
        found = check(target)
        assert (found.status, found.measured) == (
            "ok",
            f"{layers} of 14 linear layers get an adapter",
        )
    for target in (["q_proj", "c_attn"], ["proj"], ["lm_head"], ["embed_tokens"]):
        found = check(target)
        assert found.status == "fail"
        assert "down_proj, gate_proj" in found.measured
    assert model_checks.check_lora({"a": config()}, skeleton, "tiny") is None


def test_an_adapter_that_cannot_be_continued_is_found(skeleton, tmp_path) -> None:
    arms = {"a": config(lora={"resume_from": str(tmp_path)})}
    assert "holds no adapter" in model_checks.check_lora(arms, skeleton, "tiny").measured


def test_memory_follows_the_formula(skeleton) -> None:
    parameters = sum(parameter.numel() for parameter in skeleton.parameters())
    whole = model_checks.estimate_memory(config(), skeleton)
    assert (whole.weights, whole.gradients, whole.optimizer) == (
        4 * parameters,
        4 * parameters,
        8 * parameters,
    )
    bf16 = model_checks.estimate_memory(config(precision="bf16"), skeleton)
    assert bf16.total == 16 * parameters, "2 + 2 + 12 bytes a parameter"
    rank = 2
    lora = {"rank": rank, "target_modules": ["q_proj"]}
    adapted = model_checks.estimate_memory(config(lora=lora), skeleton)
    trained = 2 * rank * (32 + 32)
    assert adapted.total == 4 * (parameters + trained) + 12 * trained


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_zero_divides_more_with_every_stage(skeleton, stage: int) -> None:
    alone = model_checks.estimate_memory(config(zero_stage=stage), skeleton)
    shared = model_checks.estimate_memory(config(zero_stage=stage, num_workers=4), skeleton)
    parts = ("optimizer", "gradients", "weights")
    for number, part in enumerate(parts, start=1):
        share = 4 if stage >= number else 1
        assert getattr(shared, part) == getattr(alone, part) / share


def test_memory_names_the_largest_arm(skeleton) -> None:
    arms = {"small": config(lora={}), "large": config(precision="bf16")}
    assert "bf16" in model_checks.check_memory(arms, skeleton).measured


@pytest.mark.parametrize(
    ("precision", "device", "bf16", "status"),
    [
        ("fp32", "cpu", True, "ok"),
        ("bf16", "cuda", True, "ok"),
        ("bf16", "cuda", False, "fail"),
        ("fp16", "cuda", False, "ok"),
        ("fp16", "cpu", True, "warn"),
    ],
)
def test_precision_must_be_the_devices(precision, device, bf16, status) -> None:
    arms = {"a": config(), "b": config(precision=precision)}
    assert model_checks.check_precision(arms, device, bf16).status == status
