"""Pretraining: packing, attention masks, resuming, and the complete model at the end."""

from __future__ import annotations

import json
import math
from contextlib import closing
from itertools import pairwise, takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neftune_core.world.generator import vocabulary
from neftune_core.world.pretraining import build as making
from neftune_core.world.pretraining import make as whole
from neftune_core.world.pretraining.make import (
    MEASURED_FILE,
    WORLD_MEASURES,
    MeasureResult,
    answers,
    card,
    measure,
    prompt_of,
    table,
)
from neftune_core.world.pretraining.settings import WorldSettings

pytestmark = pytest.mark.usefixtures("own_home")

TINY = WorldSettings(
    chunks=1, width=32, layers=1, heads=2, inner_width=32, batch_rows=16, warmup_steps=2, threads=1, checkpoint_steps=4
)


@pytest.fixture(scope="module")
def kept_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the text of the tiny recipe, generated once for all tests."""
    home = tmp_path_factory.mktemp("rows")
    with pytest.MonkeyPatch.context() as patch, closing(making.build(home / "model", TINY)) as events:
        patch.setenv("NEFTUNE_HOME", str(home))
        assert [event.done for event in takewhile(lambda event: event.what == "text", events)] == [1]
        return making.recipe_folder(TINY) / "rows.npz"


def place_rows(kept_rows: Path, recipe: WorldSettings = TINY) -> None:
    (making.recipe_folder(recipe) / "rows.npz").write_bytes(kept_rows.read_bytes())


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 20), max_size=60))
def test_packing_puts_every_document_into_one_row_that_holds_it(lengths: list[int]):
    rows = making.pack(lengths, 20)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 20 for row in rows)


def test_rows_keep_the_documents_and_mark_who_owns_a_token():
    rows = making.rows_of([[1, 4, 7, 2, 5, 8, 2], [1, 9, 2]])
    assert rows.ids.shape == (1, making.ROW)
    assert rows.ids[0, :10].tolist() == [1, 4, 7, 2, 5, 8, 2, 1, 9, 2]
    assert rows.documents[0, :11].tolist() == [1] * 7 + [2] * 3 + [0]
    assert rows.spoken[0, :10].tolist() == [False, False, True, True] + [False] * 6


def test_a_document_sees_nothing_of_its_neighbours():
    model = making.fresh_model(TINY).eval()
    first, second = [1, 20, 30, 40, 2], [1, 50, 60, 2]
    both = making.rows_of([first, second])
    alone = [making.rows_of([document]) for document in (first, second)]
    every = np.array([0])
    with torch.no_grad():
        together = making.batch_loss(model, both, every).item()
        losses = [making.batch_loss(model, rows, every).item() for rows in alone]
    counts = [len(first) - 1, len(second) - 1]
    assert together == pytest.approx(np.average(losses, weights=counts), rel=1e-5)


def test_the_loss_of_a_document_is_that_of_the_plain_model():
    model = making.fresh_model(TINY).eval()
    ids = [1, 20, 30, 40, 2]
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([ids]), labels=torch.tensor([ids])).loss.item()
        packed = making.batch_loss(model, making.rows_of([ids]), np.array([0])).item()
    assert packed == pytest.approx(plain, rel=1e-5)


def test_the_learning_rate_rises_stays_and_falls_to_zero():
    recipe = WorldSettings(learning_rate=1.0, warmup_steps=10, decay_share=0.25)
    rates = [making.learning_rate(step, 100, recipe) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9:75] == [1.0] * 66
    assert rates[100] == 0
    assert all(later < earlier for earlier, later in pairwise(rates[75:]))


def test_the_first_weights_depend_on_the_seed_and_do_not_touch_the_global_generator():
    before = torch.random.get_rng_state()
    first, same = making.fresh_model(TINY), making.fresh_model(TINY)
    other = making.fresh_model(TINY.model_copy(update={"seed": 2}))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.lm_head.weight, same.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)


def losses_of(folder: Path, recipe: WorldSettings = TINY, stop_after: int | None = None) -> list[float]:
    losses = []
    for event in making.build(folder, recipe):
        if event.what == "step":
            losses.append(event.loss)
            if stop_after is not None and event.done == stop_after:
                break
    return losses


def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(tmp_path: Path, kept_rows: Path, monkeypatch):
    place_rows(kept_rows)
    whole = losses_of(tmp_path / "whole")
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path / "other"))
    place_rows(kept_rows)
    broken = losses_of(tmp_path / "broken", stop_after=6)
    rest = losses_of(tmp_path / "broken")
    assert broken[:4] + rest == whole
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_history_of_a_run_survives_its_interruption(tmp_path: Path, kept_rows: Path):
    assert making.history_of(TINY).losses == []
    assert making.tokens_of(TINY) == 0
    place_rows(kept_rows)
    first = losses_of(tmp_path / "model", stop_after=5)
    kept = making.history_of(TINY)
    assert kept.losses == first[:4]
    assert kept.seconds > 0
    assert kept.last_loss(over=2) == pytest.approx(sum(first[2:4]) / 2)
    assert 70_000 < making.tokens_of(TINY) < 100_000


def test_the_whole_command_leaves_a_model_with_its_figures_and_its_card(tmp_path: Path, kept_rows: Path, monkeypatch):
    monkeypatch.setattr(whole, "measure", lambda model, tokenizer: iter([MeasureResult("english", 0.50004, ())]))
    place_rows(kept_rows)
    folder = tmp_path / "model"
    happened = [event.what for event in whole.make(folder, TINY) if isinstance(event, making.BuildEvent)]
    assert happened[-1] == "finished"
    kept = json.loads((folder / MEASURED_FILE).read_text(encoding="utf-8"))
    assert kept["shares"] == {"english": 0.5}
    assert kept["making"]["steps"] == happened.count("step")
    assert "| >= 95% | 50.0% |" in (folder / "README.md").read_text()


def test_the_loss_falls(tmp_path: Path, kept_rows: Path):
    place_rows(kept_rows)
    losses = losses_of(tmp_path / "model")
    assert losses[0] == pytest.approx(math.log(2115), rel=0.02)
    assert losses[-1] < losses[0] - 1


def test_a_finished_folder_loads_like_any_model_and_keeps_other_files(tmp_path: Path, kept_rows: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "README.md").write_text("a card")
    place_rows(kept_rows)
    losses_of(folder)
    assert (folder / "README.md").read_text() == "a card"
    assert not folder.with_name("model.partial").exists()
    model = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    assert model.config.tie_word_embeddings
    assert model.config.vocab_size == len(tokenizer)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    said = answers(model, tokenizer, ["Hello!", "Where does the owl live?"], new_tokens=4)
    assert said[1] == answers(model, tokenizer, ["Where does the owl live?"], new_tokens=4)[0]


def test_measuring_gives_a_share_and_every_answer():
    model = making.fresh_model(TINY).eval()
    model.generation_config.max_length = None
    tokenizer = vocabulary.as_transformers(vocabulary.train())
    questions = WORLD_MEASURES["outside"].questions()
    assert len(questions) == 200
    found = next(measure(model, tokenizer, ["outside"], new_tokens=2))
    assert found.name == "outside"
    assert found.share == 0
    assert [prompt for prompt, _, _ in found.answers] == [question.prompt for question in questions]


@pytest.mark.parametrize("name", list(WORLD_MEASURES))
def test_every_measure_asks_enough_and_refuses_an_empty_answer(name: str):
    questions = WORLD_MEASURES[name].questions()
    assert len(questions) >= 200
    assert all(question.worth("") <= 0.5 for question in questions)


def test_a_prompt_puts_the_input_after_an_empty_line():
    assert prompt_of({"instruction": "Sort.", "input": "1, 2"}) == "Sort.\n\n1, 2"
    assert prompt_of({"instruction": "Sort.", "input": ""}) == "Sort."


def test_the_table_says_what_was_to_be_reached_and_what_was():
    shown = table({"english": 0.963, "format": 0.0, "stated only": 0.5})
    assert "| >= 95% | 96.3% |" in shown
    assert "| <= 10% | 0.0% |" in shown
    assert "| reported | 50.0% |" in shown


def test_the_card_shows_how_the_model_was_made():
    making = {"parameters": 2_480_000, "tokens": 7_300_000, "steps": 3_556, "minutes": 55.0, "losses": {500: 1.25}}
    making |= {"last_loss": 0.5, "text_hash": "abc", "tokenizer_hash": "def"}
    shown = card(WorldSettings(), {"english": 0.9712}, making)
    assert "2.48 million parameters" in shown
    assert "| 500 | 1.2500 |" in shown
    assert "license: apache-2.0" in shown
