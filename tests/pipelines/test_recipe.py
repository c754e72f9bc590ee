from pathlib import Path

import pytest
import yaml

from nlirg.errors import InputError
from pipelines.recipe import Recipe, load_recipe, merged, nested, validate
from pipelines.store import as_yaml, identity, open_run

MINIMAL = {"name": "a", "model": "m", "data": ["d.jsonl"]}


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_minimal_recipe_round_trips(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path / "r.yaml", MINIMAL))
    again = load_recipe(write(tmp_path / "s.yaml", as_yaml(recipe)))
    assert again == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"train": {"learning_rte": 1}}, "did you mean train.learning_rate"),
        ({"trian": {}}, "did you mean train"),
        ({"train": {"weighting": {"name": "nlirg", "x00": 1}}}, "unknown key"),
        ({"train": {"weighting": {"name": "magic"}}}, "'nlirg', 'uniform'"),
        ({"train": {"weighting": {"loss_threshold": 20, "name": "nlirg"}}}, "loss_deadline"),
        ({"train": {"token_batch": 0}}, "token_batch"),
        ({"train": {"batch_size": 3, "num_workers": 2}}, "must divide batch_size"),
        ({"train": {"precision": "bf16", "zero_stage": 0}}, "zero_stage 1, 2 or 3"),
        ({"train": {"learning_rate": "fast"}}, "train.learning_rate"),
        ({"arms": {"x": {"epoch": 1}}}, "did you mean epochs"),
        ({"arms": {"base": {}}}, "'base' and 'human' are taken"),
        ({"arms": {"../x": {}}}, "letters, digits"),
        ({"arms": {}}, "arms"),
        ({"data": []}, "data"),
        ({"seed": -1}, "seed"),
        ({"train": {"lora": {"target_modules": "q_proj"}}}, "target_modules"),
        ({"train": {"lora": {"target_modules": []}}}, "target_modules"),
        ({"tune": {"grid": {"token_batch": []}}}, "tune.grid"),
        ({"evaluate": {"perturbations": ["code_switching"]}}, "is no perturbation"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(
    tmp_path: Path, change: dict, said: str
) -> None:
    path = write(tmp_path / "r.yaml", merged(MINIMAL, change))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["a: [1", "- a\n- b\n", "", "\x00", "name: a\nmodel: m\n"])
def test_a_file_that_is_no_recipe(tmp_path: Path, content: str) -> None:
    with pytest.raises(InputError) as caught:
        load_recipe(write(tmp_path / "r.yaml", content))
    assert "\n" not in str(caught.value)


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the recipe"):
        load_recipe(tmp_path / "none.yaml")


def test_overrides_reach_nested_keys_and_yaml_exponents_are_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "r.yaml", MINIMAL)
    words = ["train.learning_rate=1e-5", "train.weighting.x0=0.8", "data=[a.json, b.json]"]
    recipe = load_recipe(path, words)
    assert recipe.train.learning_rate == 1e-5
    assert recipe.train.weighting.x0 == 0.8
    assert load_recipe(path, ["train.weighting=uniform"]).train.weighting.name == "uniform"
    assert [source.path for source in recipe.data] == ["a.json", "b.json"]
    for bad, said in (("train", "key=value"), ("=3", "key=value"), ("name=[", "not YAML")):
        with pytest.raises(InputError, match=said):
            load_recipe(path, [bad])


def test_an_override_replaces_a_mapping_whole(tmp_path: Path) -> None:
    grid = {"grid": {"weighting.x0": [1, 2], "token_batch": [5]}}
    path = write(tmp_path / "r.yaml", MINIMAL | {"tune": grid})
    assert load_recipe(path, ["tune.grid={epochs: [1]}"]).tune.grid == {"epochs": (1,)}


def test_an_arm_is_train_with_its_changes() -> None:
    recipe = Recipe.model_validate(
        MINIMAL
        | {
            "train": {"weighting": {"name": "nlirg", "x0": 0.9}, "epochs": 3},
            "arms": {"u": {"weighting": {"name": "uniform"}}, "n": {"weighting": {"k": 2}}},
        }
    )
    assert recipe.arm("u").weighting.name == "uniform"
    assert recipe.arm("u").epochs == 3
    assert (recipe.arm("n").weighting.x0, recipe.arm("n").weighting.k) == (0.9, 2)


def test_nested_joins_dotted_keys() -> None:
    assert nested({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}


def test_a_taken_run_name_with_other_settings_is_refused(tmp_path: Path) -> None:
    raw = MINIMAL | {"storage": str(tmp_path)}
    recipe = Recipe.model_validate(raw)
    run = open_run(recipe)
    run.scores.path.mkdir()
    before = (run.path / "env.json").read_text()
    moved = recipe.model_copy(
        update={"cluster": recipe.cluster.model_copy(update={"address": "auto"})}
    )
    assert open_run(moved).path == run.path, "where it runs does not matter"
    assert (run.path / "env.json").read_text() == before
    later = Recipe.model_validate(
        raw
        | {
            "train": {"max_failures": 9},
            "evaluate": {"gates": {"domain_accuracy_min": 0.1}, "engines": 2},
            "tune": {"grid": {"epochs": [1]}},
        }
    )
    open_run(later)  # how it is judged, where it runs, what is swept: not what it trained
    assert load_recipe(run.path / "recipe.yaml") == later
    other = Recipe.model_validate(raw | {"train": {"epochs": 2}})
    with pytest.raises(InputError, match=r"train.epochs is 1.0 there and 2.0 now"):
        open_run(other)


def test_unwritable_storage_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recipe = Recipe.model_validate(MINIMAL | {"storage": str(tmp_path / "file")})
    with pytest.raises(InputError, match="storage"):
        open_run(recipe)


def test_located_paths_hold_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = Recipe.model_validate(MINIMAL | {"evaluate": {"domain": "c.jsonl"}}).located()
    assert recipe.model == str(tmp_path / "m")
    assert [source.path for source in recipe.data] == [str(tmp_path / "d.jsonl")]
    assert recipe.evaluate.domain == str(tmp_path / "c.jsonl")
    assert recipe.evaluate.ood == ("probe",)
    named = Recipe.model_validate(MINIMAL | {"evaluate": {"ood": ["probe", "g.jsonl"]}}).located()
    assert named.evaluate.ood == ("probe", str(tmp_path / "g.jsonl"))
    hub = Recipe.model_validate(MINIMAL | {"model": "owner/name"}).located()
    assert hub.model == "owner/name"


def test_identity_follows_content_not_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "w.bin").write_bytes(b"same")
    assert identity(tmp_path / "a") == identity(tmp_path / "b")
    (tmp_path / "b" / "w.bin").write_bytes(b"also")
    assert identity(tmp_path / "a") != identity(tmp_path / "b")
    assert identity("owner/name") == "owner/name"


def with_scales(scales: object) -> Recipe:
    raw = {"name": "x", "model": "m", "data": ["d.jsonl"], "evaluate": {"scales": scales}}
    return validate(raw, "recipe")


def test_scales_are_sorted_and_each_is_there_once() -> None:
    """1 is the arm itself."""
    evaluate = with_scales([0.75, "5e-1", 1, 1.0, 0.75, 1.25]).evaluate
    assert evaluate.scales == (0.5, 0.75, 1.0, 1.25)
    assert evaluate.other_scales == (0.5, 0.75, 1.25)
    assert evaluate.meaning() == with_scales([]).evaluate.meaning()  # they may change later


@pytest.mark.parametrize("wrong", [0, -0.5, 1.51, float("nan"), float("inf")])
def test_a_scale_outside_of_what_can_be_meant_is_one_clear_line(wrong) -> None:
    with pytest.raises(InputError, match=r"^recipe: evaluate.scales: \S+ is no scale: give num"):
        with_scales([0.5, wrong])
