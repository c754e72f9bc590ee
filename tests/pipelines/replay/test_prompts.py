"""The prompts: those that are shipped, those of a user, and what an evaluation asks of both."""

import json
from collections import Counter

import pytest

from eval.cases.probe import load_probe
from nlirg.corpus.duplicates import near_pairs
from nlirg.errors import InputError
from pipelines.replay import prompt_files
from pipelines.replay.overlap import chosen_prompts
from pipelines.replay.prompt_files import prompts_hash, read_prompts
from pipelines.replay.stage import Replay
from pipelines.stage import run_stage
from tests.road import encoded

TOPICS = ["bread", "rivers", "clocks", "stamps", "owls", "snow", "tea", "maps", "wool", "bells"]


def test_shipped_prompts_are_many_bilingual_and_varied() -> None:
    prompts = read_prompts("builtin")
    kinds = Counter(prompt.task_type for prompt in prompts)
    languages = Counter(kind.partition("/")[2] for kind in kinds.elements())
    assert len(prompts) >= 640
    assert set(languages) == {"en", "zh"}
    assert min(languages.values()) >= 320
    assert len(kinds) >= 40
    assert max(kinds.values()) < 30, "no kind drowns the others"
    asked = {case.task_type for case in load_probe()}
    assert asked <= set(kinds), "what the probe asks about is practised"
    for prompt in prompts:
        chinese = sum("\u4e00" <= char <= "\u9fff" for char in prompt.text)
        if prompt.task_type.endswith("zh"):
            assert chinese > 2, prompt.id


def test_no_two_shipped_prompts_are_alike_and_none_is_in_the_probe() -> None:
    prompts = [prompt.text for prompt in read_prompts("builtin")]
    probe = ["\n".join(turn.content for turn in case.messages) for case in load_probe()]
    assert near_pairs(prompts, prompts) == [(i, i) for i in range(len(prompts))]
    assert near_pairs(prompts, probe) == []
    assert near_pairs(probe, probe[:3]) == [(0, 0), (1, 1), (2, 2)], "it is found where it is"


def test_shipped_prompts_are_as_released(monkeypatch, tmp_path) -> None:
    for path in prompt_files.FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(prompt_files, "FOLDER", tmp_path)
    assert read_prompts("builtin")
    (tmp_path / "en.jsonl").open("a").write("\n")
    with pytest.raises(InputError, match=r"en\.jsonl: missing or changed.*replay\.prompts"):
        read_prompts("builtin")


def test_a_file_of_lines_or_of_plain_text(tmp_path) -> None:
    path = tmp_path / "p.jsonl"
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Bye"},
    ]
    rows = [{"id": "talk", "task_type": "chat", "messages": turns}]
    rows += [{"prompt": f"What about {topic}?"} for topic in TOPICS]
    path.write_text("\ufeff\n" + "\n".join(json.dumps(row) for row in rows))
    talk, first, *_ = found = read_prompts(str(path))
    assert (talk.id, talk.task_type, talk.text) == ("talk", "chat", "Hi\nHello.\nBye")
    assert (first.id, first.task_type, first.where) == ("3", "", f"{path}:3")
    assert prompts_hash(found) != prompts_hash(found[:-1])
    plain = tmp_path / "p.txt"
    plain.write_bytes("\r\n".join(f"What about {topic}?" for topic in TOPICS).encode())
    assert [prompt.text for prompt in read_prompts(str(plain))] == [
        prompt.text for prompt in found[1:]
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", r"p\.jsonl:2: not JSON"),
        ("[1]", r"p\.jsonl:2: a prompt is a JSON object, not list"),
        ("{}", r"p\.jsonl:2: give one of `prompt` and `messages`"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "a"}]}', "give one of"),
        ('{"prompt": "  "}', r"p\.jsonl:2: the prompt is empty"),
        ('{"messages": []}', "must end on a user's turn"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "must end on a user's turn"),
        ('{"promt": "a"}', r"p\.jsonl:2: promt: Extra inputs"),
        ('{"prompt": 7}', r"p\.jsonl:2: prompt: .*string"),
        ('{"prompt": "a", "tools": []}', r"p\.jsonl:2: tools: Extra inputs"),
        ('{"prompt": "\\ud83d"}', r"p\.jsonl:2: .*surrogate"),
        ('{"id": "1", "prompt": "a"}', r"p\.jsonl:2: id '1' is that of .*p\.jsonl:1, too"),
        ("[" * 100_000, r"p\.jsonl:2: not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path, line, said) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "first"}\n' + line + '\n{"prompt": "third"}\n')
    with pytest.raises(InputError, match=said) as error:
        read_prompts(str(path))
    assert str(error.value).startswith("replay.prompts: ")
    assert "\n" not in str(error.value)


def test_a_file_that_cannot_be_used_is_named(tmp_path) -> None:
    path = tmp_path / "p.jsonl"
    with pytest.raises(InputError, match=r"replay\.prompts: .*cannot read"):
        read_prompts(str(path))
    with pytest.raises(InputError, match="did you mean 'builtin'"):
        read_prompts("buildin")
    path.write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        read_prompts(str(path))
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(InputError, match="holds 1 prompts, and at least 10 are needed"):
        read_prompts(str(path))
    path.write_text("\n")
    with pytest.raises(InputError, match="holds 0 prompts"):
        read_prompts(str(path))


def write_cases(path, texts) -> None:
    rows = [
        {
            "id": f"c{number}",
            "messages": [{"role": "user", "content": text}],
            "checker": {"kind": "contains", "values": ["x"]},
        }
        for number, text in enumerate(texts)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("suite", ["domain", "ood"])
def test_a_prompt_that_the_evaluation_asks_is_refused(make_replay, tmp_path, suite) -> None:
    prompts, cases = tmp_path / "prompts.txt", tmp_path / "cases.jsonl"
    topics = [f"What should everybody know about {topic}, in a few words?" for topic in TOPICS]
    prompts.write_text("\n".join(topics))
    write_cases(cases, ["Something else", topics[4].upper() + " "])
    evaluate = {"engine": "transformers", "ood": None, suite: str(cases)}
    recipe, _ = make_replay(replay={"prompts": str(prompts)}, evaluate=evaluate)
    with pytest.raises(InputError) as error:
        Replay().check(recipe)
    said = str(error.value)
    assert f"{prompts}:5: prompt '5'" in said
    assert f"evaluation case 'c1' of {cases}" in said
    assert "\n" not in said
    write_cases(cases, ["Something else"])
    Replay().check(recipe)


def hold_out(recipe, run, text: str) -> None:
    """Leave what encoding leaves of a row that it keeps from training."""
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": "an answer"}]
    row = {"id": "h1", "task_type": "", "messages": turns}
    run.encoded.succeed("mark", encoded(holdout=1))
    run.holdout.write_text(json.dumps(row) + "\n")


def test_a_prompt_that_a_held_out_row_asks_is_refused_before_training(make_replay, fleet) -> None:
    recipe, run = make_replay(holdout=1)
    Replay().check(recipe)
    with pytest.raises(InputError, match="run encode first"):
        Replay().check_corpus(recipe, run)
    hold_out(recipe, run, "one 7 two?")
    with pytest.raises(InputError, match=r"prompt 'p07' .* case 'h1' of .*holdout\.jsonl"):
        Replay().check_corpus(recipe, run)
    hold_out(recipe, run, "three")
    Replay().check_corpus(recipe, run)


def test_shipped_prompts_that_the_evaluation_asks_are_left_out(
    make_replay, fleet, tmp_path, capsys
) -> None:
    shipped = read_prompts("builtin")
    cases = tmp_path / "cases.jsonl"
    write_cases(cases, [shipped[3].text, "Something else", shipped[9].text])
    evaluate = {"engine": "transformers", "ood": [str(cases), "probe"]}
    recipe, run = make_replay(
        holdout=1, replay={"prompts": "builtin"}, evaluate=evaluate, encode={"max_length": 512}
    )
    assert recipe.located().replay.prompts == "builtin"
    hold_out(recipe, run, shipped[20].text)
    Replay().check(recipe)
    Replay().check_corpus(recipe, run)
    prompts, left_out = chosen_prompts(recipe, run)
    assert left_out == 3
    assert {prompt.id for prompt in shipped} - {prompt.id for prompt in prompts} == {
        shipped[number].id for number in (3, 9, 20)
    }
    summary = run_stage(Replay(), recipe, run)
    assert (summary.asked, summary.overlapping) == (len(shipped) - 3, 3)
    assert "3 shipped prompts are not asked: the evaluation asks them" in capsys.readouterr().err
