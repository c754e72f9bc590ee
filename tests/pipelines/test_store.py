"""What tells one file of a run's input from another."""

import os
from pathlib import Path

import pytest

from cluster.rundir import RunDirectory
from nlirg.errors import InputError
from pipelines import store
from pipelines.recipe import Recipe, validate


def test_a_file_is_hashed_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    digest = store.hashlib.file_digest

    def counted(content, name):
        read.append(content.name)
        return digest(content, name)

    monkeypatch.setattr(store.hashlib, "file_digest", counted)
    file = tmp_path / "weights"
    file.write_text("one")
    first = store.identity(file)
    assert store.identity(file) == first
    assert len(read) == 1
    file.write_text("two")
    os.utime(file, ns=(1, 1))
    assert store.identity(file) != first
    assert len(read) == 2


def begun(recipe: Recipe) -> RunDirectory:
    """The run of a recipe, of which a stage has begun."""
    run = store.open_run(recipe)
    run.scores.path.mkdir()
    return run


def recipe(tmp_path: Path, **settings) -> Recipe:
    raw = {"name": "a", "storage": str(tmp_path), "model": "m", "data": ["d.jsonl"]}
    return validate(raw | settings, "test")


def test_what_to_select_may_be_decided_after_scoring(tmp_path: Path) -> None:
    begun(recipe(tmp_path))
    run = store.open_run(recipe(tmp_path, order="mixed", select={"dedup": "row"}))
    assert "order: mixed" in (run.path / "recipe.yaml").read_text()
    with pytest.raises(InputError, match="seed is 0 there and 1 now"):
        store.open_run(recipe(tmp_path, seed=1))


@pytest.mark.parametrize("stage", ["selected", "encoded"])
def test_what_is_selected_is_not_selected_otherwise(tmp_path: Path, stage: str) -> None:
    run = store.open_run(recipe(tmp_path, order="mixed"))
    getattr(run, stage).succeed("made", {})
    store.open_run(recipe(tmp_path, order="mixed"))
    with pytest.raises(InputError, match="order is 'mixed' there and 'length' now"):
        store.open_run(recipe(tmp_path, order="length"))


@pytest.mark.parametrize("content", ["", "a: [", "- 1", "\xff"])
def test_a_damaged_recipe_of_a_run_is_named(tmp_path: Path, content: str) -> None:
    run = store.open_run(recipe(tmp_path))
    (run.path / "recipe.yaml").write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"a/recipe\.yaml: damaged; delete this file"):
        store.open_run(recipe(tmp_path))


def test_how_to_evaluate_may_be_decided_until_something_is_answered(tmp_path: Path) -> None:
    """A refused typo does not take the name; evaluating otherwise does not cost the training."""
    run = begun(recipe(tmp_path, evaluate={"ood": "prob"}))
    store.open_run(recipe(tmp_path, evaluate={"ood": "probe"}))
    (run.path / "eval" / "base").mkdir(parents=True)
    other = recipe(tmp_path, evaluate={"ood": "probe", "max_new_tokens": 8})
    with pytest.raises(InputError, match=r"evaluate\.max_new_tokens is .* delete .*a/eval to eval"):
        store.open_run(other)
    (run.path / "eval" / "base").rmdir()
    (run.path / "eval").rmdir()
    store.open_run(other)
    with pytest.raises(InputError, match=r"seed is 0 there and 1 now; .* or delete \S+/a$"):
        store.open_run(recipe(tmp_path, seed=1, evaluate={"ood": "probe", "max_new_tokens": 8}))


class Tomorrow(store.datetime.date):
    @classmethod
    def today(cls):
        return cls(2031, 5, 7)


def test_a_run_stays_on_the_day_it_was_begun(tmp_path: Path, monkeypatch) -> None:
    first = store.settled(recipe(tmp_path))
    assert first.encode.date == store.datetime.date.today()
    begun(first)
    monkeypatch.setattr(store.datetime, "date", Tomorrow)
    again = store.settled(recipe(tmp_path))
    assert again.encode.date == first.encode.date
    store.open_run(again)
    assert str(store.settled(recipe(tmp_path, name="b")).encode.date) == "2031-05-07"
    other = store.settled(recipe(tmp_path, encode={"date": "2020-02-02"}))
    with pytest.raises(InputError, match=r"encode\.date is .* there and '2020-02-02' now"):
        store.open_run(other)


def test_a_template_is_a_file_or_its_text(tmp_path: Path) -> None:
    text = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (tmp_path / "chat.jinja").write_text(text)
    for template in (str(tmp_path / "chat.jinja"), text):
        assert store.settled(recipe(tmp_path, template=template)).template == text
    with pytest.raises(InputError, match=r"template 'none\.jinja': No such file.*\{\{ or \{%"):
        store.settled(recipe(tmp_path, template="none.jinja"))


def test_a_refused_recipe_does_not_take_the_name(tmp_path: Path) -> None:
    store.open_run(recipe(tmp_path))
    store.open_run(recipe(tmp_path, seed=1))
    begun(recipe(tmp_path, seed=2))
    with pytest.raises(InputError, match="seed is 2 there and 3 now"):
        store.open_run(recipe(tmp_path, seed=3))
