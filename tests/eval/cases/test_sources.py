import json

import pytest

from eval.cases.general import general_passages
from eval.cases.probe import load_probe
from eval.cases.sources import is_probe, ood_cases
from eval.config import EvaluateConfig
from nlirg.errors import InputError


def written(path, *ids: str) -> str:
    lines = [
        {"id": name, "messages": [{"role": "user", "content": "1+1?"}], "reference": "2"}
        | {"checker": {"kind": "numeric"}}
        for name in ids
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return str(path)


def test_sources_are_read_in_order(tmp_path):
    mine = written(tmp_path / "mine.jsonl", "a", "b")
    probe = load_probe("v1")
    assert ood_cases(["probe"]) == ood_cases(["probe:v1"]) == probe
    cases = ood_cases([mine, "probe"])
    assert [case.id for case in cases[:2]] == ["a", "b"]
    assert cases[2:] == probe
    assert {case.suite for case in cases} == {"ood"}
    assert ood_cases([]) == []


@pytest.mark.parametrize(("n", "mine"), [(None, 5), (400, 5), (20, 5), (6, 3), (1, 0)])
def test_a_small_file_does_not_vanish_beside_the_probe(tmp_path, n, mine):
    path = written(tmp_path / "mine.jsonl", "a", "b", "c", "d", "e")
    for sources in (["probe", path], [path, "probe"]):
        cases = ood_cases(sources, n, seed=1)
        assert len(cases) == min(n or 365, 365)
        assert sum(case.id in "abcde" for case in cases) == mine
        assert cases == ood_cases(sources, n, seed=1)


def test_a_mistyped_probe_is_told_from_a_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"no file .*/prob; did you mean probe\?"):
        ood_cases([str(tmp_path / "prob")])
    with pytest.raises(InputError, match=r"mine\.jsonl: cannot read the cases"):
        ood_cases([str(tmp_path / "mine.jsonl")])


def test_an_id_in_two_sources_names_both(tmp_path):
    first, second = written(tmp_path / "x.jsonl", "a"), written(tmp_path / "y.jsonl", "b", "a")
    with pytest.raises(InputError, match=r"'a' is in .*x\.jsonl and in .*y\.jsonl"):
        ood_cases([first, second])
    with pytest.raises(InputError, match="is in probe and in probe:v1"):
        ood_cases(["probe", "probe:v1"])


def test_a_file_may_be_called_probe(tmp_path):
    assert not is_probe("./probe")
    assert not is_probe("probes.jsonl")
    assert is_probe("probe:v1")


@pytest.mark.parametrize(
    ("given", "sources"),
    [(None, ()), ("probe", ("probe",)), (["probe", "m.jsonl"], ("probe", "m.jsonl"))],
)
def test_one_source_may_stand_alone(given, sources):
    config = EvaluateConfig(ood=given)
    assert config.ood == sources
    assert EvaluateConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[" * 20_000, "texts.jsonl:2: not JSON"),
        ('{"text": "half a face: \\ud83d"}', "texts.jsonl:2: text holds half a surrogate pair"),
        ('{"text": "fine", "id": "\\ude00"}', "texts.jsonl:2: text holds half a surrogate pair"),
    ],
)
def test_general_text_that_no_tokenizer_reads_is_named(tmp_path, line, told):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"text": "one \\ud83d\\ude00"}\n' + line)
    with pytest.raises(InputError, match=told) as error:
        general_passages(str(path))
    assert len(str(error.value).splitlines()) == 1
