"""The ordered list of stages, and the commands made of it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from pipelines.recipe import Recipe
from pipelines.stage import Stage


class Entry(NamedTuple):
    """A command: where its stage class is defined, imported when needed, and what it does."""

    stage: str
    help: str


# The road from a corpus to a report, in order. A new stage is one line here and its own file.
ROAD = {
    "score": Entry("pipelines.score.stage:Score", "Score the corpus under the base model."),
    "select": Entry(
        "pipelines.select.stage:Select",
        "Drop scored rows by rules, put the others in order, write them as a corpus.",
    ),
    "encode": Entry(
        "pipelines.encode.stage:Encode", "Turn the scored corpus into token ids and labels."
    ),
    "replay": Entry(
        "pipelines.replay.stage:Replay",
        "Have the base model answer general prompts, where an arm has replay or guard.",
    ),
    "train": Entry("pipelines.train.stage:Train", "Train every arm of the recipe."),
    "evaluate": Entry(
        "pipelines.evaluate.stage:Evaluate",
        "Evaluate base and arms, write the report; exit 1 if a gate failed, 2 if one is unjudged.",
    ),
    "report": Entry(
        "pipelines.report.stage:WriteReport",
        "Judge what is evaluated and draw the report anew; exit codes as those of evaluate.",
    ),
}
SWEEP = Entry(
    "pipelines.tune.stage:Tune",
    "Sweep training settings with Ray Tune; write a table and best.yaml.",
)
WHOLE = "The whole road, corpus to report; exit 1 if a gate failed, 2 if one is unjudged."
COMMANDS = {name: entry.help for name, entry in ROAD.items()} | {"tune": SWEEP.help, "run": WHOLE}


def stages(command: str, recipe: Recipe) -> Sequence[Stage[Any]]:
    """Return the stage objects that a command runs, in order.

    `evaluate` ends with the report, `tune` begins with whatever its corpus needs, `run` is the
    whole road; every other command is its own stage.
    """
    names = list(ROAD)
    entries = {
        "run": list(ROAD.values()),
        "evaluate": [ROAD[name] for name in names[names.index("evaluate") :]],
        "tune": [*(ROAD[name] for name in names[: names.index("train")]), SWEEP],
    }.get(command) or [ROAD[command]]
    return [stage for entry in entries for stage in _load(entry.stage).of(recipe)]


def _load(path: str) -> type[Stage[Any]]:
    """Import a stage class from `module:Class`."""
    module, _, name = path.partition(":")
    loaded: type[Stage[Any]] = getattr(import_module(module), name)
    return loaded
