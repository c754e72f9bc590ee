"""The recipe: one YAML file per run, strict, with dotted overrides from the command line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, Field, ValidationError

from cluster.config import ClusterConfig
from cluster.rundir import NAME
from eval.cases.sources import is_probe
from eval.config import EvaluateConfig
from nlirg.config.corpus import (
    BUILTIN,
    DataConfig,
    EncodeConfig,
    Order,
    ReplayConfig,
    ScoreConfig,
    SelectConfig,
)
from nlirg.config.training import TrainConfig
from nlirg.errors import InputError
from nlirg.section import Section


class TuneConfig(Section):
    """A grid over the training settings; every trial trains and evaluates one point.

    `grid` maps dotted keys below `train` to the values to try. `max_tokens` bounds the tokens
    that each trial trains, whatever its `token_batch`. A trial's objective is domain score -
    `retention_weight` * (1 - retention).
    """

    grid: Annotated[
        dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)
    ] = Field(default={"weighting.x0": (0.8, 1.2), "token_batch": (5, 10)})
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_cases: Annotated[int, Field(ge=1)] = 100
    max_concurrent: Annotated[int, Field(ge=1)] | None = None
    retention_weight: Annotated[float, Field(ge=0)] = 1.0


def _path_alone(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


Data = Annotated[DataConfig, BeforeValidator(_path_alone)]


class Recipe(Section):
    """Everything one run needs.

    `arms` maps a name to overrides of `train`. `template` replaces the model's chat template: a
    file, or the text of a template.
    """

    name: str
    storage: str = "runs"
    seed: Annotated[int, Field(ge=0)] = 0
    model: str
    template: str | None = None
    data: Annotated[tuple[Data, ...], Field(min_length=1)]
    holdout: Annotated[int, Field(ge=0)] = 0
    score: ScoreConfig = ScoreConfig()
    select: SelectConfig = SelectConfig()
    order: Order = "random"
    encode: EncodeConfig = EncodeConfig()
    replay: ReplayConfig = ReplayConfig()
    train: TrainConfig = TrainConfig()
    arms: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = {"nlirg": {}}  # noqa: RUF012
    evaluate: EvaluateConfig = EvaluateConfig()
    tune: TuneConfig = TuneConfig()
    cluster: ClusterConfig = ClusterConfig()

    def arm(self, name: str) -> TrainConfig:
        """The training settings of one arm: `train` with the arm's overrides."""
        return TrainConfig.model_validate(
            merged(self.train.model_dump(mode="json"), self.arms[name])
        )

    def located(self) -> Recipe:
        """The same recipe with absolute paths: the processes of a run have other folders."""

        def here(path: str) -> str:
            return str(Path(path).expanduser().absolute())

        domain, ood = self.evaluate.domain, self.evaluate.ood
        general, prompts = self.evaluate.general, self.replay.prompts
        evaluate = {
            "general": general and here(general),
            "domain": domain and here(domain),
            "ood": tuple(source if is_probe(source) else here(source) for source in ood),
        }

        def guarded(train: Mapping[str, Any]) -> dict[str, Any]:
            """The settings of `train`, or an arm's overrides of them, with an absolute path."""
            guard = train.get("guard")
            if not isinstance(guard, Mapping) or guard.get("general", BUILTIN) == BUILTIN:
                return dict(train)
            return {**train, "guard": {**guard, "general": here(str(guard["general"]))}}

        train = TrainConfig.model_validate(guarded(self.train.model_dump(mode="json")))
        return self.model_copy(
            update={
                "train": train,
                "arms": {name: guarded(arm) for name, arm in self.arms.items()},
                "model": here(self.model) if Path(self.model).expanduser().is_dir() else self.model,
                "data": tuple(
                    source
                    if "://" in source.path
                    else source.model_copy(update={"path": here(source.path)})
                    for source in self.data
                ),
                "replay": self.replay.model_copy(
                    update={"prompts": prompts if prompts == BUILTIN else here(prompts)}
                ),
                "evaluate": self.evaluate.model_copy(update=evaluate),
            }
        )


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with nested `changes` laid over it.

    A mapping whose `name` changes (a weighting) replaces the old one: the keys of one weighting
    mean nothing to another.
    """
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            other = "name" in value and value["name"] != old.get("name")
            result[key] = dict(value) if other else merged(old, value)
        else:
            result[key] = value
    return result


def nested(dotted: Mapping[str, Any]) -> dict[str, Any]:
    """Turn `{"a.b": 1}` into `{"a": {"b": 1}}`."""
    result: dict[str, Any] = {}
    for key, value in dotted.items():
        result = assigned(result, key.split("."), value)
    return result


def assigned(base: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return `base` with `value` at a path of keys; a mapping there is replaced, not merged."""
    first, *rest = path
    old = base.get(first)
    below = assigned(old if isinstance(old, Mapping) else {}, rest, value) if rest else value
    return {**base, first: below}


def with_overrides(raw: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=value` overrides (values in YAML) to a raw recipe.

    Raises:
        InputError: if an override is not of that form.
    """
    result = dict(raw)
    for override in overrides:
        path, sign, text = override.partition("=")
        if not sign or not path:
            raise InputError(f"override {override!r}: write it as key=value, e.g. train.epochs=2")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise InputError(f"override {override!r}: the value is not YAML") from None
        result = assigned(result, path.split("."), value)
    return result


def _keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted key below a section, for suggestions."""
    found = []
    for name, field in model.model_fields.items():
        found.append(prefix + name)
        kinds = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found += _keys(kind, f"{prefix}{name}.")
    return found


def explain(error: ValidationError, source: str, model: type[BaseModel] = Recipe) -> str:
    """One line for the first thing wrong in a recipe: key, reason, nearest valid key."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, _keys(model), n=3, cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        return f"{source}: unknown key {key!r}{hint}"
    if first["type"] == "missing":
        return f"{source}: key {key!r} is missing"
    message = first["msg"].removeprefix("Value error, ")
    return f"{source}: {key or 'recipe'}: {message}"


def validate(raw: Mapping[str, Any], source: str) -> Recipe:
    """Turn a raw mapping into a recipe; relative paths stay as they are.

    Raises:
        InputError: naming `source` and the first wrong key.
    """
    try:
        recipe = Recipe.model_validate(raw)
    except ValidationError as error:
        raise InputError(explain(error, source)) from None
    for name in recipe.arms:
        if not NAME.fullmatch(name) or name in {"base", "human"}:
            raise InputError(
                f"{source}: arm {name!r}: use letters, digits, '.', '_', '-'; "
                "'base' and 'human' are taken"
            )
        try:
            recipe.arm(name)
        except ValidationError as error:
            raise InputError(explain(error, f"{source}: arms.{name}", TrainConfig)) from None
    return recipe


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply overrides.

    Raises:
        InputError: if the file is missing, is not YAML, or a key or value is wrong.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot read the recipe: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).replace("\n", " ")
        raise InputError(f"{path}: not a YAML file: {line}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys; see the README")
    return validate(with_overrides(raw, overrides), str(path))
