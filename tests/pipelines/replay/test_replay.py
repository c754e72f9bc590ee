"""The stage: what is asked, kept, left out, resumed and refused, and what training reads of it."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from eval.generation.transformers_engine import TransformersEngine
from nlirg.corpus.arrangement.ordering import hash_rank
from nlirg.errors import InputError
from nlirg.labels import IGNORE
from nlirg.models.loading import model_directory
from nlirg.scoring.scorer import Scorer
from pipelines.chat import chat_of
from pipelines.replay.asking import base_answers
from pipelines.replay.filters import NO_END, REPEATS
from pipelines.replay.overlap import chosen_prompts
from pipelines.replay.stage import Replay
from pipelines.run import stages
from pipelines.stage import run_stage, state
from pipelines.train.encoded import read_encoded
from tests.pipelines.replay.conftest import CHUNK, PROMPTS, cut
from tests.road import run_checked


def answers_file(run):
    (path,) = (run.path.parent / ".answers").glob("*/answers.jsonl")
    return path


def test_every_prompt_is_answered_and_training_reads_the_answers(make_replay, fleet) -> None:
    recipe, run = make_replay()
    summary = run_checked(Replay(), recipe, run)
    assert (summary.asked, summary.kept, summary.left_out) == (PROMPTS, PROMPTS, {})
    (corpus,) = read_encoded(run.replay.path, run.replay.path / "tokens")
    assert len(corpus.rows) == PROMPTS
    assert sum(corpus.n_trained) == summary.trained_tokens
    chat = chat_of(recipe)
    plan = pq.read_table(run.replay.path / "plan.parquet").sort_by("rank").to_pylist()
    assert [row["id"] for row in plan] == sorted((row["id"] for row in plan), key=hash_rank)
    asked = {prompt.id: prompt for prompt in chosen_prompts(recipe, run)[0]}
    answers = [json.loads(line) for line in answers_file(run).read_text().splitlines()]
    said = {answer["id"]: answer["answer"] for answer in answers}
    scorer = Scorer(recipe.model, "fp32")
    for row, sample in zip(plan, corpus.rows, strict=True):
        name = row["id"].removeprefix("replay:")
        turns = [{"role": "user", "content": asked[name].text}]
        # What training would make of the conversation itself is the very same.
        answer = {"role": "assistant", "content": said[name]}
        (encoded,) = chat.encode([*turns, answer], loss_on="last").samples
        assert sample["input_ids"].tolist() == encoded.input_ids
        assert sample["labels"].tolist() == encoded.labels
        _, prompt_ids = chat.prompt(turns)
        assert sample["input_ids"][: len(prompt_ids)].tolist() == prompt_ids
        assert (sample["labels"][: len(prompt_ids)] == IGNORE).all()
        (scores,) = scorer.score([(sample["input_ids"], sample["labels"])])
        np.testing.assert_allclose(sample["base_loss"], scores.loss, atol=1e-5)


def test_thinking_is_trained_as_it_was_generated(make_replay, fleet) -> None:
    fleet.speak = lambda request: f"<think>\nlet me see\n</think>\n\nyes {request.key[1]}"
    recipe, run = make_replay()
    assert run_stage(Replay(), recipe, run).kept == PROMPTS
    (corpus,) = read_encoded(run.replay.path, run.replay.path / "tokens")
    for row in corpus.rows:
        trained = row["labels"][row["labels"] != IGNORE]
        text = chat_of(recipe).tokenizer.decode(trained.tolist())
        assert text.startswith("<think>\nlet me see\n</think>\n\nyes p")
        assert text.endswith("<|im_end|>")
    fleet.speak = lambda request: "<think>\nlet me see, and see"
    recipe, run = make_replay("unfinished", seed=1)
    with pytest.raises(InputError, match=r"0 of 24 .*24 empty"):
        run_stage(Replay(), recipe, run)


@pytest.mark.parametrize("torn", [False, True])
def test_a_killed_stage_goes_on_with_what_is_there(make_replay, fleet, torn) -> None:
    recipe, run = make_replay(storage="quiet")
    run_stage(Replay(), recipe, run)
    quiet = pq.read_table(run.replay.path / "plan.parquet")

    fleet.asked, fleet.stop_after = [], 2
    recipe, run = make_replay(storage="stopped")
    with pytest.raises(KeyboardInterrupt):
        run_stage(Replay(), recipe, run)
    assert fleet.stop_after == 0
    assert len(fleet.asked) == len(answers_file(run).read_bytes().splitlines()) == 2 * CHUNK
    assert not run.replay.marker.exists()
    if torn:
        answers_file(run).write_bytes(answers_file(run).read_bytes()[:-9])

    fleet.stop_after = 10**6
    run_stage(Replay(), recipe, run)
    assert Counter(fleet.asked).total() == PROMPTS + torn
    assert len(set(fleet.asked)) == PROMPTS
    assert pq.read_table(run.replay.path / "plan.parquet").equals(quiet)


def test_another_run_of_the_storage_asks_nothing(make_replay, fleet) -> None:
    first, run = make_replay("first")
    run_stage(Replay(), first, run)
    fleet.asked = []
    second, other = make_replay("second")
    run_stage(Replay(), second, other)
    assert fleet.asked == []
    for name in ("plan.parquet", "tokens/part-00000.arrow"):
        path = run.replay.path / name
        assert path.read_bytes() == (other.replay.path / name).read_bytes()
    hotter, third = make_replay("third", replay={"temperature": 0.5})
    run_stage(Replay(), hotter, third)
    assert len(fleet.asked) == PROMPTS


def test_one_more_prompt_is_one_more_question(make_replay, fleet, tmp_path) -> None:
    recipe, run = make_replay("first")
    run_stage(Replay(), recipe, run)
    fleet.asked = []
    with (tmp_path / "prompts.jsonl").open("a") as file:
        file.write(json.dumps({"id": "new", "prompt": "and this?"}) + "\n")
    recipe, run = make_replay("second")
    assert run_stage(Replay(), recipe, run).asked == PROMPTS + 1
    assert [key[-1] for key in fleet.asked] == ["new"]


def test_what_is_no_answer_is_left_out_and_counted(make_replay, fleet, capsys) -> None:
    def change(request, done):
        number = int(request.key[1][1:])
        if number < 3:
            return cut(request, done)
        if number == 3:
            return replace(done, text="", token_ids=done.token_ids[-1:])
        if number == 4:
            return replace(done, token_ids=(*done.token_ids[:-1], *[9, 8, 7, 6] * 12, 2))
        return done

    fleet.change = change
    recipe, run = make_replay()
    summary = run_stage(Replay(), recipe, run)
    assert summary.left_out == {NO_END: 3, "empty": 1, REPEATS: 1}
    assert summary.kept == PROMPTS - 5
    rows = [json.loads(line) for line in (run.replay.path / "left_out.jsonl").open()]
    assert [row["id"] for row in rows] == ["p00", "p01", "p02", "p03", "p04"]
    assert "3 without an end, 1 empty, 1 repeat themselves" in capsys.readouterr().err


def test_too_few_answers_are_refused_and_the_answers_stay(make_replay, fleet) -> None:
    fleet.change = lambda request, done: done if request.key[1] == "p05" else cut(request, done)
    recipe, run = make_replay()
    with pytest.raises(InputError, match=r"1 of 24 .*23 without an end.*max_new_tokens") as error:
        run_stage(Replay(), recipe, run)
    assert "\n" not in str(error.value)
    assert len(answers_file(run).read_text().splitlines()) == PROMPTS
    assert not run.replay.marker.exists()


def test_prompts_without_room_for_an_answer_are_counted(make_replay, fleet) -> None:
    recipe, run = make_replay(encode={"max_length": 24})
    fleet.speak = lambda request: "yes"
    path = run.path.parent.parent / "prompts.jsonl"
    with path.open("a") as file:
        file.write(json.dumps({"id": "long", "prompt": "word " * 50}) + "\n")
    summary = run_stage(Replay(), recipe, run)
    assert summary.left_out == {"the prompt is too long": 1}
    assert ("base", "template", "long") not in fleet.asked


def test_a_seed_gives_the_same_answers_and_another_seed_others(
    make_replay, fleet, monkeypatch
) -> None:
    """With a real model that samples."""
    engines: list[TransformersEngine] = []

    def run(self):
        for group in self._groups:
            engines.append(TransformersEngine(group.spec))
            for chunk in group.chunks:
                yield chunk, engines[-1].generate(chunk.requests, None)

    monkeypatch.setattr(type(fleet), "run", run)
    found = {}
    for name, seed in {"one": 0, "same": 0, "other": 1}.items():
        recipe, directory = make_replay(storage=name, seed=seed, replay={"max_new_tokens": 8})
        prompts, _ = chosen_prompts(recipe, directory)
        answers = base_answers(recipe, directory, model_directory(recipe.model), prompts)
        found[name] = [one.answer.token_ids for one in answers]
    assert len(engines) == 3
    assert found["one"] == found["same"] != found["other"]
    assert len(set(found["one"])) > PROMPTS // 2


def test_a_second_process_waits_for_the_first(make_replay, fleet, monkeypatch) -> None:
    recipe, run = make_replay()
    run_stage(Replay(), recipe, run)
    lock = FileLock(answers_file(run).parent / ".lock")
    lock.acquire()
    told = []

    def say(stage, text):
        told.append(text)
        lock.release()

    monkeypatch.setattr("pipelines.replay.kept_answers.say", say)
    other, second = make_replay("second")
    run_stage(Replay(), other, second)
    assert [text[:11] for text in told] == ["another run"]


def test_nothing_is_asked_where_no_arm_wants_it(make_replay, fleet) -> None:
    recipe, run = make_replay(train={"replay": None})
    assert state(Replay(), recipe, run) == "nothing to do"
    guarded, _ = make_replay(train={"replay": None, "guard": {}})
    assert state(Replay(), guarded, run) == "to do"
    arm, _ = make_replay(train={"replay": None}, arms={"a": {}, "b": {"replay": {"share": 0.1}}})
    assert state(Replay(), arm, run) == "to do"
    swept, _ = make_replay(train={"replay": None}, tune={"grid": {"replay.share": [0.1]}})
    assert state(Replay(), swept, run) == "to do"
    text, _ = make_replay(train={"replay": None, "guard": {}}, encode={"task": "cpt"})
    assert state(Replay(), text, run) == "nothing to do"
    names = [stage.name for stage in stages("run", recipe)]
    assert names.index("encode") + 1 == names.index("replay") == names.index("train") - 1


def test_other_settings_are_refused(make_replay, fleet) -> None:
    recipe, run = make_replay()
    run_stage(Replay(), recipe, run)
    for changes in (
        {"replay": {"temperature": 0.7}},
        {"seed": 3},
        {"score": {"precision": "bf16"}},
        {"encode": {"max_length": 100}},
    ):
        other, _ = make_replay(**changes)
        with pytest.raises(InputError, match="other settings"):
            run_stage(Replay(), other, run)
    larger, _ = make_replay(evaluate={"engines": 2, "engine": "transformers"})
    run_stage(Replay(), larger, run)
