"""Noise on live models of every family, and the file with the results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from neftune_core.home import assets
from neftune_core.noise import attach
from neftune_core.noise.sites import layer_stack, noise_sites
from tests.stress.families import summary
from tests.stress.families.building import VOCABULARY, tiny_tokenizer
from tests.stress.families.live import CHECKS, COMMON_HOOK
from tests.stress.families.tiny import FAMILIES, REPRESENTATIVES

RECORDED = json.loads((assets() / "docs" / "families.json").read_text(encoding="utf-8"))
FIRST = {"works under TRL": ("Llama", "GPT-2"), "works under Trainer": ("Llama", "OPT-350m", "T5", "BART")}


EVERY_FAMILY = ("noise reaches the loss", "evaluation is clean")
"""The checks that are not slow for any family."""


def _cases() -> list[Any]:
    """Return every check and family; most checks, and all with trainers, are fast on a few families only."""
    return [
        pytest.param(family, check, marks=[] if family in _fast(check) else [pytest.mark.slow])
        for check in [*CHECKS, *COMMON_HOOK]
        for family in FAMILIES
    ]


def _fast(check: str) -> Iterable[str]:
    return FAMILIES if check in EVERY_FAMILY else FIRST.get(check, REPRESENTATIVES)


@pytest.mark.parametrize(("family", "check"), _cases())
def test_a_check_finds_what_the_file_says(family: str, check: str) -> None:
    if check == "works under TRL":
        pytest.importorskip("trl")  # of the `bench` extra
    found = {**CHECKS, **COMMON_HOOK}[check](FAMILIES[family])
    assert found == RECORDED["families"][family]["checks"][check]


def test_the_file_has_every_check_of_every_family_and_none_of_the_labs_own_fails() -> None:
    assert list(RECORDED["families"]) == list(FAMILIES)
    assert RECORDED["ours"] == list(summary.CHECKS)
    for name, family in FAMILIES.items():
        entry = RECORDED["families"][name]
        assert list(entry["checks"]) == list(summary.COLUMNS)
        assert all(entry["checks"][check] is not False for check in summary.CHECKS)
        assert (entry["words"], entry["encoder_decoder"]) == (family.words, family.encoder_decoder)
        assert entry["pretrained_for_this"] == family.pretrained_for_this


def test_the_common_trainer_hook_does_nothing_on_t5_and_bart() -> None:
    effects = {
        name: entry["checks"]["the common trainer hook has an effect"] for name, entry in RECORDED["families"].items()
    }
    assert [name for name, effect in effects.items() if not effect] == ["T5", "Flan-T5", "BART"]


def test_the_table_says_what_holds_what_fails_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(family: object) -> bool:
        raise RuntimeError("no")

    def missing(family: object) -> bool:
        import a_package_that_nobody_has  # noqa: F401

        return True

    columns = {"a": lambda family: True, "b": lambda family: None, "c": fail, "d": missing}
    monkeypatch.setattr(summary, "COLUMNS", columns)
    monkeypatch.setattr(summary, "FAMILIES", {"Llama": FAMILIES["Llama"]})
    table = summary.measure_families()
    assert [table.rows[0][column] for column in columns] == ["yes", "not applicable", "no", "not applicable"]
    assert table.notes[:2] == [
        "Llama, c: RuntimeError: no",
        "Llama, d: the package a_package_that_nobody_has is not installed",
    ]


@contextmanager
def _no_noise(model: Any, *settings: Any, **more: Any) -> Iterator[Any]:
    yield model


@contextmanager
def _careless_noise(model: Any, *settings: Any, **more: Any) -> Iterator[Any]:
    """Add noise wrongly: to the weights, everywhere and permanently."""
    embedding = noise_sites(model)[0].module
    with torch.no_grad():
        embedding.weight += torch.randn(embedding.weight.shape)
    embedding.register_forward_hook(lambda module, args, output: output + torch.randn(output.shape))
    yield model


@pytest.mark.parametrize(
    ("noise", "failing"),
    [
        (_no_noise, ["noise reaches the loss", "padding is clean", "works under PEFT", "works under Trainer"]),
        (
            _careless_noise,
            [
                "evaluation is clean",
                "padding is clean",
                "a tied head is clean",
                "gradient checkpointing agrees",
                "saved weights are untouched",
                "nothing is left",
                "works under PEFT",
            ],
        ),
    ],
)
def test_the_checks_find_noise_that_is_absent_or_careless(
    monkeypatch: pytest.MonkeyPatch, noise: Any, failing: list[str]
) -> None:
    monkeypatch.setattr(attach, "noisy_embeddings", noise)
    assert {check: CHECKS[check](FAMILIES["Llama"]) for check in failing} == dict.fromkeys(failing, False)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sites_of_a_family_are_its_embeddings_and_layers_in_order(family: str) -> None:
    model = FAMILIES[family].build()
    sites = noise_sites(model)
    layers = 4 if FAMILIES[family].encoder_decoder else 2
    assert [site.number for site in sites if site.number > 0] == list(range(1, layers + 1))
    assert len({site.key for site in sites}) == len(sites)
    for part in {site.part for site in sites}:
        own = [site for site in sites if site.part == part]
        assert isinstance(own[0].module, torch.nn.Embedding)
        name, stack = layer_stack(model, part)
        assert model.get_submodule(name) is stack
        assert [site.module for site in own if site.number > 0] == list(stack)
    assert sites[0].key == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_family_is_always_the_same_and_leaves_the_global_generator(family: str) -> None:
    before = torch.get_rng_state()
    first, second = (FAMILIES[family].build().state_dict() for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_tiny_tokenizer_reads_a_word_as_its_number() -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer("w5 w9 w255 <end>").input_ids == [5, 9, 255, 2]
    assert len(tokenizer) == VOCABULARY


def test_the_page_shows_every_family_and_what_the_common_hook_does() -> None:
    from neftune_core.ui.parts.model_panel import families_html

    page = families_html()
    assert page.count("<tr>") == len(FAMILIES) + 1
    assert "T5" in page and "not pre-trained to generate text" in page
