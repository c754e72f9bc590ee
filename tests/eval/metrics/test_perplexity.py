"""Losses and divergence on texts: against the plain computation, for adapters and full models."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from eval.cases import general
from eval.cases.general import Passage, general_passages
from eval.generation.serving import DENSE
from eval.metrics.definition import Measure
from eval.metrics.model_pair import ModelPair
from eval.metrics.perplexity import TextDivergence, divergence_measures, domain_texts, general_texts
from eval.schema.case import Case
from eval.statistics.estimates import ComparisonConfig, Estimates
from nlirg.chat.encoder import ChatEncoder
from nlirg.errors import InputError
from nlirg.labels import IGNORE

CONFIG = ComparisonConfig("base", bootstrap=400, confidence=0.95, seed=0)


def estimated(found) -> dict[str, tuple[Measure, Estimates]]:
    measures = divergence_measures(found)
    return {measure.key: (measure, measure.estimate({}, CONFIG)) for measure in measures}


def case(name: str, reference: str) -> Case:
    return Case.model_validate(
        {
            "id": name,
            "messages": [{"role": "user", "content": f"the question {name}"}],
            "reference": reference,
            "checker": {"kind": "exact", "values": ["x"]},
        }
    )


@pytest.fixture(scope="module")
def texts(tiny_tokenizer):
    cases = [case("a", "the answer is yes"), case("b", "no"), case("c", "")]
    passages = [
        Passage("p", "one two three four " * 4),
        Passage("q", "数字 one"),
        Passage("r", "o"),
    ]
    return [
        *domain_texts(ChatEncoder(tiny_tokenizer), cases, 512),
        *general_texts(tiny_tokenizer, passages, 16),
    ]


@pytest.fixture(scope="module")
def adapter(tiny_model_dir, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    torch.manual_seed(1)
    config = LoraConfig(r=4, lora_alpha=16, target_modules=sorted(DENSE), init_lora_weights=False)
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    get_peft_model(base, config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def merged(tiny_model_dir, adapter, tmp_path_factory) -> Path:
    from peft import PeftModel

    path = tmp_path_factory.mktemp("merged")
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    PeftModel.from_pretrained(base, adapter).merge_and_unload().save_pretrained(path)
    return path


def plain(base, tuned, text) -> list[float]:
    """Means over the trained tokens of one text, from whole float64 distributions."""
    ids = torch.tensor([text.ids])
    with torch.no_grad():
        p, q = (m(ids).logits[0].double().log_softmax(-1) for m in (base, tuned))
    where = torch.tensor([i for i in range(1, len(text.ids)) if text.labels[i] != IGNORE])
    p, q, target = p[where - 1], q[where - 1], ids[0, where][:, None]
    kl = (p.exp() * (p - q)).sum(-1).mean()
    return [-p.gather(-1, target).mean(), -q.gather(-1, target).mean(), kl]


def test_adapter_and_merged_model_give_what_whole_distributions_give(
    texts, tiny_model_dir, adapter, merged
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_model_dir).eval()
    tuned = AutoModelForCausalLM.from_pretrained(merged).eval()
    by_adapter = ModelPair(str(tiny_model_dir), str(tiny_model_dir), str(adapter), "cpu")
    by_model = ModelPair(str(tiny_model_dir), str(merged), None, "cpu")
    for pair in (by_adapter, by_model):
        found = pair.measure(texts)
        assert [row.id for row in found] == [text.id for text in texts]
        for row, text in zip(found, texts, strict=True):
            wanted = [float(value) for value in plain(base, tuned, text)]
            assert [row.base_loss, row.loss, row.kl] == pytest.approx(wanted, rel=1e-4, abs=1e-5)
            assert row.kl > 0.01


def test_base_against_itself_has_moved_nowhere(texts, tiny_model_dir) -> None:
    same = ModelPair(str(tiny_model_dir), str(tiny_model_dir), None, "cpu").measure(texts)
    assert all(row.kl == 0 and row.loss == row.base_loss for row in same)
    found = estimated({"v": same})
    assert list(found) == ["domain_loss", "domain_kl", "general_loss", "general_kl"]
    assert found["domain_loss"][1].against["v"].delta == 0
    assert found["general_kl"][1].values["v"].value == 0


def test_texts_hold_answers_alone_and_fit_the_context(texts, tiny_tokenizer) -> None:
    assert [text.id for text in texts] == ["a", "b", "p", "q"], "without reference, one token"
    answer = [label for label in texts[0].labels if label != IGNORE]
    assert tiny_tokenizer.decode(answer) == "the answer is yes<|im_end|>"
    assert len(texts[2].ids) == 16
    assert domain_texts(ChatEncoder(tiny_tokenizer), [case("a", "the answer is yes")], 12) == []


def row(name: str, kind: str, tokens: int, base: float, loss: float) -> TextDivergence:
    return TextDivergence(
        id=name,
        root_id=name,
        kind=kind,
        sha256=name,
        tokens=tokens,
        base_loss=base,
        loss=loss,
        kl=abs(loss - base),
    )


def test_means_are_over_tokens_and_intervals_over_texts() -> None:
    rows = [row("a", "domain", 30, 2.0, 1.0), row("b", "domain", 10, 4.0, 1.0)]
    found = estimated({"v": rows})
    assert list(found) == ["domain_loss", "domain_kl"]
    (measure, loss), (_, kl) = found.values()
    assert (measure.family, measure.better) == ("domain", "lower")
    assert loss.values["base"].value == pytest.approx(2.5)
    assert loss.values["v"].value == pytest.approx(1.0)
    assert loss.against["v"].delta == pytest.approx(-1.5)
    assert (loss.values["v"].n, loss.against["v"].n) == (2, 2)
    assert (loss.values["base"].low, loss.values["base"].high) == (2.0, 4.0)
    assert loss.against["v"].p_value >= 0.5, "two texts prove nothing"
    assert kl.values["v"].value == pytest.approx(1.5)
    assert kl.against == {}


def test_a_planted_change_is_found_and_a_null_one_is_not() -> None:
    random = np.random.default_rng(0)
    base = random.normal(3, 1, 200)
    noise = random.normal(0, 0.1, 200)
    rows = {
        "worse": [
            row(str(i), "general", 50, b, b + 0.1 + e)
            for i, (b, e) in enumerate(zip(base, noise, strict=True))
        ],
        "same": [
            row(str(i), "general", 50, b, b + e)
            for i, (b, e) in enumerate(zip(base, noise, strict=True))
        ],
    }
    _, loss = estimated(rows)["general_loss"]
    assert loss.against["worse"].low > 0
    assert loss.against["worse"].p_value < 1e-6
    assert loss.against["same"].low < 0 < loss.against["same"].high


def test_other_texts_are_refused_and_too_few_are_no_metric() -> None:
    one, two = row("a", "domain", 3, 1, 1), row("b", "domain", 3, 1, 1)
    with pytest.raises(InputError, match="different texts"):
        divergence_measures({"v": [one, two], "w": [two, one]})
    assert divergence_measures({"v": [one]}) == []
    assert divergence_measures({}) == []


def test_nan_weights_are_refused(texts, tiny_model_dir, tmp_path) -> None:
    broken = AutoModelForCausalLM.from_pretrained(tiny_model_dir)
    with torch.no_grad():
        broken.model.norm.weight[0] = float("nan")
    broken.save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"text 'p'.*NaN"):
        ModelPair(str(tiny_model_dir), str(tmp_path), None, "cpu").measure(texts[2:])


def test_shipped_text_is_bilingual_and_as_released(monkeypatch, tmp_path) -> None:
    found = general_passages(None)
    assert len(found) >= 40
    assert len({passage.text for passage in found}) == len(found)
    languages = {"en": 0, "zh": 0}
    for passage in found:
        languages[passage.task_type.partition("/")[2]] += 1
        assert len(passage.text) > 60
    assert languages["en"] == languages["zh"] >= 20
    for name in ("v1.jsonl", "manifest.json"):
        (tmp_path / name).write_bytes((general.SHIPPED.parent / name).read_bytes())
    (tmp_path / "v1.jsonl").open("a").write("\n")
    monkeypatch.setattr(general, "SHIPPED", tmp_path / "v1.jsonl")
    with pytest.raises(InputError, match="changed since its release"):
        general_passages(None)


def test_users_text(tmp_path) -> None:
    lines, plain_text = tmp_path / "t.jsonl", tmp_path / "t.txt"
    lines.write_text(json.dumps({"text": "one"}) + "\n\n" + json.dumps({"id": 7, "text": "two"}))
    assert general_passages(str(lines)) == [Passage("1", "one"), Passage("7", "two")]
    plain_text.write_bytes("\ufeffone\r\nstill\r\n\r\n\r\n两\n".encode())
    assert general_passages(str(plain_text)) == [Passage("1", "one\nstill"), Passage("2", "两")]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", ":1: not JSON"),
        (b'{"text": " "}', ":1: needs a key `text`"),
        (b'["text"]', ":1: needs a key `text`"),
        (b'{"text": "a"}', "at least two"),
        (b'{"id": 1, "text": "a"}\n{"id": 1, "text": "b"}', "'1' appears twice"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_texts_that_cannot_be_used_are_named(tmp_path, content: bytes, said: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said):
        general_passages(str(path))
    with pytest.raises(InputError, match="cannot read"):
        general_passages(str(tmp_path / "none.jsonl"))
