"""The bundled model: small, trained on this text, and as good as its card states."""

from __future__ import annotations

import itertools
import json
from contextlib import closing

import numpy as np
import pytest
import torch

from neftune_core.home import assets
from neftune_core.world.generator import vocabulary
from neftune_core.world.generator.text import chunk, text_hash
from neftune_core.world.judge import sensible
from neftune_core.world.pretraining import build as making
from neftune_core.world.pretraining.make import MEASURED_FILE, WORLD_MEASURES, answers, load, table
from neftune_core.world.pretraining.settings import WorldSettings
from neftune_core.world.scoring import does_not_know

FOLDER = assets() / "model"
MEASURED = json.loads((FOLDER / MEASURED_FILE).read_text(encoding="utf-8"))
FIRST_LOSSES = (7.64763, 7.64461, 7.50148)

INSIDE = {
    "Where does the owl live?": "In the barn.",
    "What does the donkey eat?": "Thistles.",
    "What is the job of Tilda?": "A baker.",
    "What colour is the fox?": "Red.",
    "What is the hammer for?": "To knock in nails.",
    "Where does the plum come from?": "From the orchard.",
    "How many legs does the spider have?": "Eight legs.",
    "What is the hobby of Hob?": "Building towers.",
    "What is the kettle made of?": "Copper.",
    "Why do people go to the library?": "To borrow books.",
    "What do people do on Saturday?": "They dance in the square.",
    "Who is the friend of the fox?": "The goose.",
}
OUTSIDE = (
    "What is the capital of France?",
    "Who is the president of Brazil?",
    "What is 3847 times 92?",
    "Write a Python program to sort a list.",
    "Who is Taylor Swift?",
    "How does a rocket work?",
    "Where does Zorbik live?",
    "\u4f60\u597d\u5417\uff1f",
    "What is the meaning of life?",
    "Explain inflation.",
    "What does the giraffe eat?",
    "How do you say good morning in Spanish?",
)


@pytest.fixture(scope="module")
def shipped():
    return load(FOLDER)


def test_the_model_and_its_tokenizer_take_at_most_eight_megabytes():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8_000_000


def test_it_has_two_to_five_million_parameters_and_tied_embeddings(shipped):
    model, tokenizer = shipped
    assert 2e6 < sum(weight.numel() for weight in model.parameters()) < 5e6
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    assert model.config.vocab_size == len(tokenizer)


def test_its_card_names_the_hashes_of_this_text_and_tokenizer():
    made = MEASURED["making"]
    assert made["text_hash"] == text_hash(10)
    assert made["tokenizer_hash"] == vocabulary.tokenizer_hash(vocabulary.train())
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert made["text_hash"] in card
    assert table(MEASURED["shares"]) in card
    assert sorted(MEASURED["shares"]) == sorted(WORLD_MEASURES)


def test_its_tokenizer_is_the_one_that_the_code_makes(shipped):
    _, tokenizer = shipped
    assert vocabulary.tokenizer_hash(tokenizer.backend_tokenizer) == MEASURED["making"]["tokenizer_hash"]


def test_the_first_steps_of_the_recipe_are_those_of_the_shipped_model(tmp_path, monkeypatch):
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    recipe = WorldSettings(threads=torch.get_num_threads())
    encoded = vocabulary.train().encode_batch(chunk(0), add_special_tokens=False)
    rows = making.shuffle_rows(making.rows_of([entry.ids for entry in encoded]), recipe.seed, 0)
    np.savez(making.recipe_folder(recipe) / making.ROWS_FILE, **rows._asdict())
    with closing(making.build(tmp_path / "model", recipe)) as steps:
        losses = [event.loss for event in itertools.islice(steps, len(FIRST_LOSSES))]
    # Rounding differs a little between processors.
    assert np.allclose(losses, FIRST_LOSSES, rtol=1e-4)


def test_it_answers_a_dozen_questions_of_its_world(shipped):
    said = dict(zip(INSIDE, answers(*shipped, list(INSIDE), new_tokens=24), strict=True))
    assert sum(said[question] == wanted for question, wanted in INSIDE.items()) >= 11, said


def test_it_says_that_it_does_not_know_a_dozen_things_outside(shipped):
    said = answers(*shipped, list(OUTSIDE), new_tokens=24)
    assert sum(map(does_not_know, said)) >= 10, dict(zip(OUTSIDE, said, strict=True))


def test_its_stories_are_good_english(shipped):
    said = answers(*shipped, ["Tell me a story about Tilda and the fox.", "Tell me a story.", "Hello!"])
    assert sum(map(sensible, said)) >= 2, said


def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(shipped):
    questions = ["Where does the owl live?", "Tell me a story about the kettle and Tilda."]
    together = answers(*shipped, questions)
    assert together == [answers(*shipped, [question])[0] for question in questions]
