"""The engine against the model's own code, on a tiny model of every family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from each_family import family_case, family_cases
from tiny_tokenizers import bert_tokenizer, t5_tokenizer

from neftune_core.data.chat import prompt_ids
from neftune_core.data.examples import Message
from neftune_core.data.preparing import prepare
from neftune_core.data.settings import DataSettings
from neftune_core.engine.lockstep import Lockstep
from neftune_core.engine.settings import TrainingSettings
from neftune_core.engine.stack import AdapterStack
from neftune_core.models.architecture.module_trees import private_tree
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.studies.settings import StudySettings
from tests.stress.families.engine import (
    ALPHA,
    CHECKS,
    PENALTY,
    RANK,
    answers_of,
    batch_of,
    generated,
    loaded_family,
    own_loss,
    prompts_of,
    stack_of,
)
from tests.stress.families.tiny import FAMILIES
from tests.weights import weights_hash

ENCODER_DECODERS = [name for name, family in FAMILIES.items() if family.encoder_decoder]


EVERY_FAMILY = "chunked loss equals the model's own"
"""The check that is not slow for any family."""


@pytest.mark.parametrize(
    ("family", "check"),
    [
        (family, check) if check == EVERY_FAMILY else family_case(family, check)
        for family in FAMILIES
        for check in CHECKS
    ],
)
def test_the_engine_does_what_the_model_itself_does(family: str, check: str) -> None:
    assert CHECKS[check](FAMILIES[family])


@pytest.mark.parametrize("family", family_cases(FAMILIES))
def test_an_arm_of_any_family_loaded_by_peft_gives_the_same_loss(family: str, tmp_path: Path) -> None:
    from peft import PeftModel

    loaded = loaded_family(FAMILIES[family])
    stack, batch = stack_of(loaded), batch_of(loaded)
    stack.save(2, tmp_path)
    with torch.no_grad(), stack.running([2]) as tree:
        ours = own_loss(tree, batch)
    theirs = own_loss(PeftModel.from_pretrained(private_tree(loaded.model), tmp_path).eval(), batch)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    again = AdapterStack(loaded, 1, rank=RANK, alpha=ALPHA)
    again.load(1, tmp_path)
    with torch.no_grad(), again.running([1]) as tree:
        assert torch.equal(own_loss(tree, batch), ours)


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_a_private_tree_of_an_encoder_decoder_does_not_modify_the_model(family: str) -> None:
    loaded = loaded_family(FAMILIES[family])
    batch, before = batch_of(loaded), weights_hash(loaded.model)
    clean = own_loss(loaded.model, batch)
    tree = private_tree(loaded.model)
    assert torch.equal(own_loss(tree, batch), clean)
    tree.get_encoder().get_input_embeddings().register_forward_hook(lambda module, args, output: output + 1)
    assert not torch.equal(own_loss(tree, batch), clean)
    assert torch.equal(own_loss(loaded.model, batch), clean)
    assert weights_hash(loaded.model) == before


@pytest.mark.parametrize("family", ["T5", "BART", "RoBERTa", "OPT"])
def test_an_answer_is_the_same_alone_and_among_longer_prompts(family: str) -> None:
    loaded = loaded_family(FAMILIES[family])
    stack, prompts = stack_of(loaded), prompts_of(loaded)
    together = answers_of(stack, [0, 2, 1], prompts, PENALTY)
    for place, prompt in enumerate(prompts):
        for order, slot in enumerate([0, 2, 1]):
            assert answers_of(stack, [slot], [prompt], PENALTY)[0][0] == together[order][place]
    assert len({tuple(answer) for by_slot in together for answer in by_slot}) > len(prompts)


def test_what_a_model_forces_and_forbids_holds_in_its_answers() -> None:
    loaded = loaded_family(FAMILIES["BART"])
    free = answers_of(stack_of(loaded), [0], prompts_of(loaded), PENALTY)[0]
    loaded.model.generation_config.forced_bos_token_id = 77
    loaded.model.generation_config.bad_words_ids = [[free[0][1]], [free[1][0]], [5, 6]]
    held = answers_of(stack_of(loaded), [0], prompts_of(loaded), PENALTY)[0]
    assert all(answer[0] == 77 for answer in held)
    assert not {free[0][1], free[1][0]} & {token for answer in held for token in answer[1:]}
    assert held == [generated(loaded.model, prompt, loaded, PENALTY) for prompt in prompts_of(loaded)]


@pytest.mark.parametrize("family", ["Granite", "BERT", "RoBERTa", "T5", "BART", "Marian"])
def test_the_loss_is_another_where_a_part_of_the_head_is_left_out(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "neftune_core.engine.loss.head_logits", lambda model, hidden: model.get_output_embeddings()(hidden)
    )
    assert not CHECKS["chunked loss equals the model's own"](FAMILIES[family])


@pytest.mark.parametrize(("family", "tokenizer"), [("T5", t5_tokenizer), ("BERT", bert_tokenizer)])
def test_a_model_from_a_folder_is_fine_tuned_with_noise_and_answers(
    family: str, tokenizer: Callable[[], Any], tmp_path: Path
) -> None:
    FAMILIES[family].build().save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    study = StudySettings(
        model=ModelSettings(source=str(tmp_path), precision="float32", device="cpu"),
        data=DataSettings(source="starter:english-german", maximum_length=96, rows=24),
        training=TrainingSettings(epochs=1, batch_size=6, learning_rate=1e-2, evaluations=1),
        noise=(NoiseSettings(strength=5), NoiseSettings(strength=0.1, unit="relative", sites="embedding, 1-2")),
    )
    loaded = load(study.model)
    prepared = prepare(study.data, loaded.tokenizer, Limits())
    stack = AdapterStack(loaded, len(study.arms), rank=RANK, alpha=ALPHA)
    events = list(Lockstep(study, stack, prepared).run(lambda: False))
    before, after = events[0]["arms"]["base"]["held_out_loss"], events[-1]["arms"]
    assert all(numbers["held_out_loss"] < before for numbers in after.values())
    assert len({numbers["held_out_loss"] for numbers in after.values()}) == len(after)
    prompts = [prompt_ids([Message("user", text)], loaded.tokenizer) for text in ("the cat sleeps .", "hello")]
    answers = answers_of(stack, range(stack.slots), prompts, PENALTY)
    assert [len(by_slot) for by_slot in answers] == [2] * stack.slots
