"""Answers of a batched decode equal those of single prompts."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    SuppressTokensLogitsProcessor,
    TemperatureLogitsWarper,
    TopPLogitsWarper,
)

from neftune_core.data.chat import end_ids, prompt_ids
from neftune_core.data.examples import Message
from neftune_core.engine.stack import AdapterStack
from neftune_core.errors import Cancelled, DoesNotFit
from neftune_core.evaluation.answers import (
    Answer,
    Answers,
    next_tokens,
    sample_tokens,
    stream_answers,
    stream_conversations,
)
from neftune_core.evaluation.kv_prefill import chunk_starts, shared_prefix
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.models.architecture.caches import read_on
from neftune_core.models.loading import LoadedModel, load
from neftune_core.models.settings import ModelSettings
from neftune_core.models.tokenizing import Decoding
from tests.stress.families.engine import stack_of

PROMPTS = ["Who lives in the barn?", "Say something.", "Tell me a long story about the fox, the moon and the sea."]


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return load(ModelSettings(precision="float32"))


@pytest.fixture(scope="module")
def stack(loaded: LoadedModel) -> AdapterStack:
    """Return a stack of two arms that differ from each other and from the base."""
    return stack_of(loaded, 2, seed=5, deviation=0.2)


def _ids(loaded: LoadedModel, prompts: list[str]) -> list[list[int]]:
    return [prompt_ids([Message("user", text)], loaded.tokenizer) for text in prompts]


def _last(stack: AdapterStack, slots: list[int], ids: list[list[int]], settings: AnswerSettings) -> Answers:
    answers: Answers = []
    for answers in stream_answers(stack, slots, ids, settings):  # noqa: B007 - the last state counts
        pass
    return answers


@pytest.mark.parametrize("penalty", [1.0, 1.2])
def test_the_base_answers_as_generate_does(loaded: LoadedModel, stack: AdapterStack, penalty: float) -> None:
    settings = AnswerSettings(new_tokens=20, repetition_penalty=penalty)
    ids = _ids(loaded, PROMPTS)
    answers = _last(stack, [0, 1, 2], ids, settings)[0]
    ending = end_ids(loaded.tokenizer)
    for prompt, answer in zip(ids, answers, strict=True):
        alone = loaded.model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=20,
            do_sample=False,
            repetition_penalty=penalty,
            eos_token_id=sorted(ending),
            pad_token_id=loaded.tokenizer.pad_token_id,
        )[0, len(prompt) :].tolist()
        assert answer.ids == [token for token in alone if token not in ending]


def test_an_answer_does_not_depend_on_its_neighbours(loaded: LoadedModel, stack: AdapterStack) -> None:
    settings = AnswerSettings(new_tokens=16)
    ids = _ids(loaded, PROMPTS)
    together = _last(stack, [0, 1, 2], ids, settings)
    for slot in (1, 2):
        for place, prompt in enumerate(ids):
            assert _last(stack, [slot], [prompt], settings)[0][0].ids == together[slot][place].ids
    assert together[1][0].ids != together[2][0].ids


def test_answers_grow_a_token_at_a_time_and_say_how_they_ended(loaded: LoadedModel, stack: AdapterStack) -> None:
    lengths = []
    for answers in stream_answers(stack, [0, 1], _ids(loaded, PROMPTS[:2]), AnswerSettings(new_tokens=6)):
        lengths.append(max(len(answer.ids) for by_slot in answers for answer in by_slot))
    assert lengths == sorted(lengths)
    assert max(lengths) <= 6
    assert all(answer.ended in ("stop", "limit") for by_slot in answers for answer in by_slot)


def test_a_row_that_ends_early_leaves_the_others_unchanged(
    loaded: LoadedModel, stack: AdapterStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AnswerSettings(new_tokens=12, repetition_penalty=1.0)
    ids = _ids(loaded, PROMPTS)
    whole = _last(stack, [1], ids, settings)[0]
    place = max(range(len(whole)), key=lambda number: len(whole[number].ids))
    early = whole[place].ids[
        len(whole[place].ids) // 2
    ]  # this token shall end an answer: the longest one is cut in two
    ending = end_ids(loaded.tokenizer)
    monkeypatch.setattr("neftune_core.evaluation.answers.end_ids", lambda tokenizer: {early, *ending})
    cut = _last(stack, [1], ids, settings)[0]
    for answer, uncut in zip(cut, whole, strict=True):
        expected = uncut.ids[: uncut.ids.index(early)] if early in uncut.ids else uncut.ids
        assert answer.ids == expected
    assert cut[place].ended == "stop"
    assert len(cut[place].ids) < len(whole[place].ids)


def test_a_stop_ends_the_decode(loaded: LoadedModel, stack: AdapterStack) -> None:
    asked = False
    stream = stream_answers(stack, [0], _ids(loaded, PROMPTS), AnswerSettings(), lambda: asked)
    next(stream)
    asked = True
    with pytest.raises(Cancelled):
        next(stream)


def test_an_answer_ends_at_the_models_context_and_a_prompt_that_fills_it_is_refused(loaded: LoadedModel) -> None:
    ids = _ids(loaded, PROMPTS)
    room = 5
    narrow = dataclasses.replace(loaded, context=max(map(len, ids)) + room)
    stack = AdapterStack(narrow, 1, rank=4, alpha=8)
    answers = _last(stack, [0], ids, AnswerSettings(new_tokens=100, repetition_penalty=1.0))[0]
    lengths = [(answer.ended, len(prompt) + len(answer.ids)) for prompt, answer in zip(ids, answers, strict=True)]
    assert {length for ended, length in lengths if ended == "limit"} == {narrow.context + 1}  # the last is never read
    assert max(length for _, length in lengths) == narrow.context + 1
    assert {ended for ended, _ in lengths} <= {"stop", "limit"}
    full = dataclasses.replace(loaded, context=len(ids[0]))
    with pytest.raises(DoesNotFit, match="shorten the prompt"):
        next(stream_answers(AdapterStack(full, 1, rank=4, alpha=8), [0], ids[:1], AnswerSettings()))


SAMPLED = AnswerSettings(new_tokens=14, temperature=0.9, top_p=0.9, samples=2, sampling_seed=3)


def test_a_drawn_answer_does_not_depend_on_its_neighbours(loaded: LoadedModel, stack: AdapterStack) -> None:
    ids = _ids(loaded, PROMPTS)
    together = _last(stack, [0, 1, 2], ids, SAMPLED)
    for slot in (0, 2):
        for place, prompt in enumerate(ids):
            alone = _last(stack, [slot], [prompt], SAMPLED)[0]
            assert [answer.ids for answer in alone] == [answer.ids for answer in together[slot][2 * place :][:2]]
    assert together[0][0].ids != together[0][1].ids  # the two answers to one prompt
    other = _last(stack, [0], ids, SAMPLED.model_copy(update={"sampling_seed": 4}))[0]
    assert [answer.ids for answer in other] != [answer.ids for answer in together[0]]


def test_drawn_tokens_have_the_probabilities_of_the_kept_ones() -> None:
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log().repeat(1000, 1)
    draws = (torch.arange(1000) + 0.5) / 1000
    all_of_them = torch.bincount(sample_tokens(logits, draws, 1.0), minlength=4)
    kept = torch.bincount(sample_tokens(logits, draws, 0.7), minlength=4)
    # a grid of 1,000 draws meets each share to the nearest draw on either side
    assert (all_of_them - torch.tensor([500, 250, 150, 100])).abs().max() <= 2
    assert (kept - torch.tensor([667, 333, 0, 0])).abs().max() <= 2


@pytest.mark.parametrize("penalty", [1.0, 1.2])
@pytest.mark.parametrize(("temperature", "top_p"), [(0.6, 1.0), (1.0, 0.9), (1.7, 0.5)])
def test_tokens_are_drawn_with_the_probabilities_of_transformers_own_processors(
    temperature: float, top_p: float, penalty: float
) -> None:
    draws, seen = 4000, torch.tensor([[2, *range(0, 40, 2)]])  # with scores of both signs
    logits = torch.randn(1, 40, generator=torch.Generator().manual_seed(8)) - 1
    wanted = LogitsProcessorList()
    wanted.append(RepetitionPenaltyLogitsProcessor(penalty))
    wanted.append(TemperatureLogitsWarper(temperature))
    wanted.append(TopPLogitsWarper(top_p))
    shares = wanted(seen, logits.clone()).softmax(-1)[0]
    settings = AnswerSettings(temperature=temperature, top_p=top_p, repetition_penalty=penalty)
    grid = [(number + 0.5) / draws for number in range(draws)]
    found = next_tokens(logits.repeat(draws, 1), seen.repeat(draws, 1), grid, settings, Decoding())
    counts = torch.bincount(found, minlength=40)
    # each share of the grid ends at the nearest draw on either side
    assert (counts - shares * draws).abs().max() <= 1


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_tokens_that_a_model_never_says_are_not_chosen(temperature: float) -> None:
    logits = torch.randn(50, 12, generator=torch.Generator().manual_seed(9))
    never = (0, 3, 7)
    shares = SuppressTokensLogitsProcessor(list(never))(torch.zeros(50, 1).long(), logits.clone()).softmax(-1)
    settings = AnswerSettings(temperature=temperature, repetition_penalty=1.0)
    found = next_tokens(logits, torch.zeros(50, 1).long(), [0.5] * 50, settings, Decoding(never=never))
    assert (shares.gather(1, found[:, None]) > 0).all()


def test_slots_and_rows_that_end_are_dropped_and_the_answers_stay(
    loaded: LoadedModel, stack: AdapterStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = AnswerSettings(new_tokens=24, repetition_penalty=1.0)
    ids = _ids(loaded, PROMPTS)
    first = _last(stack, [0, 1, 2], ids, settings)
    ending = end_ids(loaded.tokenizer)
    common = {answer.ids[3] for answer in first[1] if len(answer.ids) > 3}  # these tokens shall end answers early
    monkeypatch.setattr("neftune_core.evaluation.answers.end_ids", lambda tokenizer: common | ending)
    sizes: list[int] = []

    def counted(tree: Any, cache: Any, **given: Any) -> Any:
        sizes.append(len(given["input_ids"]))
        return read_on(tree, cache, **given)

    monkeypatch.setattr("neftune_core.evaluation.answers.read_on", counted)
    dropped = _last(stack, [0, 1, 2], ids, settings)
    assert sizes[0] == len(ids) * 3 > min(sizes)
    assert dropped == [[_ended_at(answer, common) for answer in by_slot] for by_slot in first]


def _ended_at(answer: Answer, ending: set[int]) -> Answer:
    """Return the beginning of a greedy answer that ends at these tokens too."""
    end = next((place for place, token in enumerate(answer.ids) if token in ending), None)
    return answer if end is None else Answer(answer.ids[:end], "stop")


def test_prompts_read_in_parts_leave_what_one_pass_would(
    loaded: LoadedModel, stack: AdapterStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [*PROMPTS, "What?", "Please tell me " + "a very long story, " * 12 + "and end it well."]
    ids = _ids(loaded, texts)
    monkeypatch.setattr("neftune_core.evaluation.kv_prefill.PASS_TOKENS", 1)
    assert len(chunk_starts([len(prompt) for prompt in ids], 2)) > 2
    in_parts = _last(stack, [0, 1], ids, AnswerSettings(new_tokens=10))
    monkeypatch.setattr("neftune_core.evaluation.kv_prefill.PASS_TOKENS", 10**9)
    assert len(chunk_starts([len(prompt) for prompt in ids], 2)) == 1
    assert shared_prefix([ids, ids]) == 0
    assert in_parts == _last(stack, [0, 1], ids, AnswerSettings(new_tokens=10))


def test_parts_are_the_cheapest_way_to_read_prompts() -> None:
    assert chunk_starts([40, 40, 40], 4) == [40]
    assert chunk_starts([500, 20, 20, 20], 1) == [500, 20]  # 480 + 80 tokens and a pass, instead of 2,000
    assert shared_prefix([[[1] * 30 + [2], [1] * 30 + [3], [1] * 30 + [2, 4]]] * 4) == 30
    assert shared_prefix([[[1] * 30 + [2]]]) == 0


def test_each_arm_continues_with_its_own_conversation(loaded: LoadedModel, stack: AdapterStack) -> None:
    settings = AnswerSettings(new_tokens=10)
    own = [_ids(loaded, PROMPTS[:2]), _ids(loaded, PROMPTS[1:])]
    answers: Answers = []
    for answers in stream_conversations([(stack, 1), (stack, 2)], own, settings):  # noqa: B007 - the last state counts
        pass
    assert answers == [_last(stack, [1], own[0], settings)[0], _last(stack, [2], own[1], settings)[0]]


def test_arms_of_which_one_pass_takes_one_answer_as_those_of_one_pass(
    loaded: LoadedModel, stack: AdapterStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, settings = _ids(loaded, PROMPTS), AnswerSettings(new_tokens=10)
    together = _last(stack, [0, 1, 2], ids, settings)
    monkeypatch.setattr(stack, "groups", lambda slots: [[slot] for slot in slots])
    assert _last(stack, [0, 1, 2], ids, settings) == together
