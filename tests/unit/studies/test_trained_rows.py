"""Losses per token of trained arms, kept with the record and measured again, against plain passes of merged models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from neftune_core.errors import RecordError
from neftune_core.settings import Limits
from neftune_core.studies.judging import verdict_of
from neftune_core.studies.records.numbers import rows_by_step
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.records.tokens import TOKENS, read_tokens
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.loading import load_trained, measure_tokens
from neftune_core.studies.trained.rows import TokenLosses
from neftune_core.studies.trained.token_kinds import (
    ALL,
    END,
    FIRST,
    FUNCTION,
    MARK,
    NAME,
    NUMBER,
    OTHER,
    by_kind,
    kinds_of,
    payload,
)

ROUNDING = 2e-3  # float32 sums in a different order, and four digits in the file


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a study of two seeds in float32."""
    training = EXAMPLE.training.model_copy(update={"epochs": 1, "lora_rank": 4, "learning_rate": 5e-3})
    changes = {
        "data": EXAMPLE.data.model_copy(update={"rows": 12}),
        "model": EXAMPLE.model.model_copy(update={"precision": "float32"}),
        "training": training,
        "measuring": EXAMPLE.measuring.model_copy(update={"prompts": 0, "robustness": False}),
        "answers": EXAMPLE.answers.model_copy(update={"prompts": ("Who lives in the barn?",), "new_tokens": 8}),
        "seeds": 2,
    }
    made = create(EXAMPLE.model_copy(update=changes), "", folder=tmp_path_factory.mktemp("home") / "runs")
    *_, ending = run_study(made, Limits(), lambda: False)
    assert ending["event"] == "finished", ending
    return made


def test_a_study_keeps_the_losses_of_plain_passes_of_its_merged_models(record: Record) -> None:
    arms = load_trained(record, 0, Limits())
    lines = read_tokens(record, 0)
    assert {line["part"] for line in lines} == {"held_out", "train", "written"}
    models = {name: arms.stack.merged(slot) if slot else arms.loaded.model for slot, name in arms.names.items()}
    by_row = {
        (part, row.example.row): row
        for part, rows in (("held_out", arms.prepared.held_out), ("train", arms.prepared.train))
        for row in rows
    }
    for line in (one for one in lines if one["part"] != "written"):
        row = by_row[line["part"], line["row"]]
        ids = torch.tensor(row.ids[None].astype(np.int64))
        for name, model in models.items():
            with torch.no_grad():
                scores = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
            losses = -scores.gather(1, ids[0, 1:, None])[:, 0][torch.from_numpy(row.trained[1:])]
            assert line["losses"][name] == pytest.approx(losses.tolist(), abs=ROUNDING)
        assert line["kinds"][0] == FIRST
        assert line["kinds"][-1] == END
        assert "".join(line["tokens"][:-1]).strip() == row.example.response


def test_rows_of_a_seed_whose_arms_all_diverged_are_none(record: Record) -> None:
    arms = load_trained(record, 0, Limits())
    assert TokenLosses(arms.stack, {}, 4).of_rows("train", arms.prepared.train) == []


def test_tokens_of_a_row_sum_to_its_loss_in_the_last_evaluation(record: Record) -> None:
    rows = rows_by_step(record)
    last = max(step for seed, step in rows if seed == 1)
    lines = [line for line in read_tokens(record, 1) if line["part"] == "held_out"]
    for name, measured in rows[1, last]["held_out"].items():
        sums = [sum(line["losses"][name]) for line in lines]
        assert measured.losses[0] == pytest.approx(sums, abs=0.01)


def test_the_base_of_the_first_seed_is_that_of_all(record: Record) -> None:
    first, second = (read_tokens(record, seed) for seed in (0, 1))
    pairs = [pair for pair in zip(first, second, strict=True) if pair[0]["part"] != "written"]
    assert {mine["part"] for mine, _ in pairs} == {"train", "held_out"}
    for mine, other in pairs:
        assert other["losses"]["base"] == mine["losses"]["base"]


def test_each_arm_reads_the_answer_that_it_wrote(record: Record) -> None:
    answers = record.answers(0)[0]["arms"]
    written = {line["arm"]: line for line in read_tokens(record, 0) if line["part"] == "written"}
    assert set(written) == {name for name, answer in answers.items() if answer["text"]}
    for name, line in written.items():
        assert "".join(line["tokens"]).strip() == answers[name]["text"].strip()
        assert set(line["losses"]) == {name}
        assert len(line["losses"][name]) == len(line["tokens"])


def test_a_record_without_the_file_is_measured_from_its_adapters_and_equal(record: Record) -> None:
    before = read_tokens(record, 1)
    (record.folder / TOKENS).unlink()
    assert read_tokens(record, 1) == []
    verdict_of(record)  # still opens
    found = measure_tokens(record, 1, Limits())
    assert found == read_tokens(record, 1)
    for mine, other in zip(before, found, strict=True):
        assert (mine["row"], mine["tokens"], mine["kinds"]) == (other["row"], other["tokens"], other["kinds"])
        for name, losses in mine["losses"].items():
            assert other["losses"][name] == pytest.approx(losses, abs=ROUNDING)
    with pytest.raises(RecordError, match="Seed 9"):
        measure_tokens(record, 9, Limits())


def test_damaged_lines_are_left_out(record: Record) -> None:
    path = record.folder / TOKENS
    kept = path.read_bytes()
    good = json.loads(kept.splitlines()[0])
    for damage in (b"{}\n", b"[1]\n", b"\xff\n", json.dumps({**good, "tokens": good["tokens"][1:]}).encode() + b"\n"):
        path.write_bytes(damage + kept)
        assert len(read_tokens(record, good["seed"])) == sum(
            json.loads(line)["seed"] == good["seed"] for line in kept.splitlines()
        )
    path.write_bytes(kept)


def test_the_page_is_sent_every_arm_with_its_references(record: Record) -> None:
    lines = read_tokens(record, 0) or measure_tokens(record, 0, Limits())
    sent = payload(lines, list(record.arms))
    json.dumps(sent, allow_nan=False)
    assert list(sent["kinds"]["held_out"]) == list(record.arms)
    assert list(sent["kinds"]["held_out"]["control"]) == ["base"]
    assert payload(lines, [])["kinds"]["held_out"] == {}  # a damaged record may list no arms


def test_kinds_are_told_by_the_word_around_a_token() -> None:
    texts = [
        "The",
        " owl",
        " lives",
        " in",
        " ",
        "1",
        "2",
        " barn",
        "s",
        " near",
        " ",
        "L",
        "ily",
        "'",
        "s",
        ".",
        " It",
        "<e>",
    ]
    kinds = kinds_of(texts, [True, *[False] * 17], [*[False] * 17, True])
    assert kinds == [
        FIRST, OTHER, OTHER, FUNCTION, NUMBER, NUMBER, NUMBER, OTHER, OTHER, FUNCTION,
        NAME, NAME, NAME, NAME, NAME, MARK, FUNCTION, END,
    ]  # fmt: skip
    assert kinds_of(["Yes", "!", " Wonderful", "我", "的"], [False] * 5, [False] * 5) == [
        OTHER,
        MARK,
        OTHER,
        OTHER,
        OTHER,
    ]


def test_differences_by_kind_are_ratios_of_sums_with_an_interval_over_rows() -> None:
    generator = np.random.default_rng(4)
    lines = []
    for row in range(20):
        kinds = [FIRST, *[OTHER] * int(generator.integers(2, 9)), END]
        control = generator.random(len(kinds))
        shift = np.where(np.array(kinds) == END, 0.5, -0.1) + 0.01 * generator.standard_normal(len(kinds))
        losses = {"control": control.tolist(), "arm": (control + shift).tolist()}
        lines.append({"kinds": kinds, "losses": losses, "row": row})
    found = by_kind(lines, "arm", "control")
    assert list(found) == [FIRST, OTHER, END, ALL]
    assert found[END]["tokens"] == 20
    differences = [
        a - b for line in lines for a, b in zip(line["losses"]["arm"], line["losses"]["control"], strict=True)
    ]
    assert found[ALL]["difference"] == pytest.approx(np.mean(differences), abs=1e-5)
    assert found[ALL]["tokens"] == len(differences)
    assert found[END]["low"] < found[END]["difference"] < found[END]["high"]
    assert found[END]["low"] > 0.45
    assert found[OTHER]["high"] < -0.09
    rare = [{**lines[0], "kinds": [NUMBER] * len(lines[0]["kinds"])}, *lines[1:]]
    assert by_kind(rare, "arm", "control")[NUMBER]["low"] is None  # most resamples leave that one row out
    assert by_kind(lines, "nobody", "control") == {}
