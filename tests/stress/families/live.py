"""Checks of noise on live models of every family: plain loops, PEFT, Trainer and TRL.

Each check builds a tiny random model of the family (`tiny.py`), and compares numbers of its own forward and
backward passes with and without `noisy_embeddings`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from neftune_core.bench.noise import trainer_hook
from neftune_core.noise.settings import NoiseSettings
from tests.stress.families.building import LAYERS, Check, Family

if TYPE_CHECKING:
    import torch

LOUD = NoiseSettings(strength=1.0, unit="relative")
EVERYWHERE = NoiseSettings(strength=0.1, unit="relative", sites=f"embedding, 1-{LAYERS}")
LENGTHS = (9, 5)
PROMPT_SHARE = 3
TOLERANCE = 1e-4  # of the largest entry of a gradient; a recomputed layer sums in the same order, its neighbours not


def batch_of(family: Family) -> dict[str, Any]:
    """Return two right-padded rows of different lengths, with labels after the first tokens."""
    import torch

    pad = family.build().config.pad_token_id
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 250, (len(LENGTHS), max(LENGTHS)), generator=generator)
    mask = (torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]).long()
    if family.encoder_decoder:
        labels = torch.randint(3, 250, (len(LENGTHS), 6), generator=generator)
        labels[1, 4:] = -100
    else:
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :PROMPT_SHARE] = -100
    return {"input_ids": ids.masked_fill(mask == 0, pad), "attention_mask": mask, "labels": labels}


def loss_of(model: Any, batch: dict[str, Any], noise: NoiseSettings | None = None) -> float:
    """Return the loss in the model's current mode."""
    import torch

    with torch.no_grad(), _noisy(model, noise):
        return float(model(**batch).loss)


@contextmanager
def _noisy(model: Any, noise: NoiseSettings | None) -> Iterator[Any]:
    from neftune_core.noise.attach import noisy_embeddings

    if noise is None:
        yield model
        return
    with noisy_embeddings(model, noise, seed=1) as found:
        yield found


def reaches_the_loss(family: Family) -> bool:
    """Check that noise on the prompt only, and on the response only, changes the training loss."""
    model, batch = family.build().train(), batch_of(family)
    clean = loss_of(model, batch)
    sides = [LOUD.model_copy(update={"tokens": side}) for side in ("prompt", "response")]
    return all(loss_of(model, batch, noise) != clean for noise in sides)


def evaluation_is_clean(family: Family) -> bool:
    """Check that the evaluation loss is bit-identical."""
    model, batch = family.build().eval(), batch_of(family)
    return loss_of(model, batch, LOUD) == loss_of(model, batch)


def padding_is_clean(family: Family) -> bool:
    """Check that in every embedding all real tokens get noise and padding gets none."""
    from neftune_core.noise.sites import noise_sites

    model, batch = family.build().train(), batch_of(family)
    true = {"encoder": batch["attention_mask"] == 1, "decoder": batch["attention_mask"] == 1}
    if family.encoder_decoder:
        true["decoder"] = batch["labels"] != -100
    for site in noise_sites(model):
        if site.number == 0:
            clean, noisy = _seen_at(site.module, model, batch, None), _seen_at(site.module, model, batch, LOUD)
            if not ((noisy != clean).any(-1) == true[site.part]).all():
                return False
    return True


def _seen_at(module: Any, model: Any, batch: dict[str, Any], noise: NoiseSettings | None) -> torch.Tensor:
    """Return the output of `module` as the rest of the model receives it."""
    seen: list[torch.Tensor] = []
    with _noisy(model, noise):
        handle = module.register_forward_hook(lambda _, args, output: seen.append(output.detach()))
        model(**batch)
        handle.remove()
    return seen[0]


def tied_head_is_clean(family: Family) -> bool | None:
    """Check that a tied head uses its clean weights under noise; None for an untied head."""
    import torch

    model, batch = family.build().train(), batch_of(family)
    head = model.get_output_embeddings()
    if all(head.weight is not other.weight for other in model.modules() if isinstance(other, torch.nn.Embedding)):
        return None
    clean_head, seen = copy.deepcopy(head), []
    handle = head.register_forward_hook(lambda _, args, output: seen.append((args[0], output)))
    loss_of(model, batch, LOUD)
    handle.remove()
    with torch.no_grad():
        return bool(torch.equal(clean_head(seen[-1][0]), seen[-1][1]))


def works_under_peft(family: Family) -> bool:
    """Check that a new LoRA wrapper, which changes nothing yet, gives the same loss under noise."""
    from peft import LoraConfig, get_peft_model

    from neftune_core.models.architecture.anatomy import leave_out, linear_maps
    from neftune_core.models.architecture.trials import unreached_maps

    batch, model = batch_of(family), family.build().train()
    bare, clean = loss_of(model, batch, LOUD), loss_of(model, batch)
    leave_out(model, unreached_maps(model))
    config = LoraConfig(r=2, target_modules=linear_maps(model, "all"), fan_in_fan_out=_transposed(model))
    wrapped = get_peft_model(model, config).train()
    return loss_of(wrapped, batch, LOUD) == bare != clean


def _transposed(model: Any) -> bool:
    """Return whether the model stores its weights transposed, as GPT-2 does."""
    from transformers.pytorch_utils import Conv1D

    return any(isinstance(module, Conv1D) for module in model.modules())


def checkpointing_agrees(family: Family) -> bool:
    """Check that gradient checkpointing does not change gradients with noise at every site."""
    plain, recomputed = (_gradients(family, checkpointing=checkpointing) for checkpointing in (False, True))
    return plain.keys() == recomputed.keys() and all(
        float((recomputed[name] - gradient).abs().max()) <= TOLERANCE * float(gradient.abs().max())
        for name, gradient in plain.items()
    )


def _gradients(family: Family, *, checkpointing: bool) -> dict[str, torch.Tensor]:
    model, batch = family.build().train(), batch_of(family)
    if checkpointing:
        switch_on = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        switch_on({"use_reentrant": False})
    layers = 2 * LAYERS if family.encoder_decoder else LAYERS
    sites = f"embedding, 1-{layers}" if family.layers_take_noise else "embedding"
    noise = EVERYWHERE.model_copy(update={"sites": sites})
    with _noisy(model, noise):
        (model(**batch, use_cache=False).loss + 2 * model(**batch, use_cache=False).loss).backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def saved_weights_are_untouched(family: Family) -> bool:
    """Check that `state_dict` has the same names and values under noise."""
    import torch

    model, batch = family.build().train(), batch_of(family)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with _noisy(model, LOUD):
        model(**batch)
        after = model.state_dict()
    return before.keys() == after.keys() and all(torch.equal(after[name], value) for name, value in before.items())


def _fail(model: Any, batch: dict[str, Any]) -> None:
    try:
        with _noisy(model, LOUD):
            model(**batch)
            raise ValueError("as an example")
    except ValueError:
        pass


def _interrupt(model: Any, batch: dict[str, Any]) -> None:
    try:
        with _noisy(model, LOUD):
            model(**batch)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def _close_generator(model: Any, batch: dict[str, Any]) -> None:
    def steps() -> Generator[Any, None, None]:
        with _noisy(model, LOUD):
            yield model(**batch)

    running = steps()
    next(running)
    running.close()


ENDINGS: tuple[Callable[[Any, dict[str, Any]], None], ...] = (_fail, _interrupt, _close_generator)


def nothing_is_left(family: Family) -> bool:
    """Check hooks, mode and loss after an exception, an interrupt and a closed generator."""
    model, batch = family.build().train(), batch_of(family)
    clean = loss_of(model, batch)

    def state() -> list[tuple[int, int, bool, int]]:
        return [
            (len(module._forward_hooks), len(module._forward_pre_hooks), module.training, len(vars(module)))
            for module in model.modules()
        ]

    before = state()
    for leave in ENDINGS:
        leave(model, batch)
        if state() != before or loss_of(model, batch) != clean:
            return False
    return True


def works_under_trainer(family: Family) -> bool:
    """Check two steps of transformers' trainer: noise changes the losses, and the same seed repeats them."""
    return _losses_tell(family, _trainer, _trained_losses(family, _trainer, None))


def works_under_trl(family: Family) -> bool | None:
    """Check two steps of TRL's SFT trainer in the same way; None for families that it does not train without noise."""
    if family.encoder_decoder:
        return None
    try:
        clean = _trained_losses(family, _sft_trainer, None)
    except AttributeError:  # it reads a setting that the configuration does not have
        return None
    return _losses_tell(family, _sft_trainer, clean)


def _losses_tell(family: Family, make_trainer: Callable[[Family, str], Any], clean: list[float]) -> bool:
    first, again = (_trained_losses(family, make_trainer, LOUD) for _ in range(2))
    return first == again and all(noisy != quiet for noisy, quiet in zip(first, clean, strict=True))


def _trained_losses(
    family: Family, make_trainer: Callable[[Family, str], Any], noise: NoiseSettings | None
) -> list[float]:
    from transformers import PrinterCallback

    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(family, folder)
        trainer.remove_callback(PrinterCallback)
        with _noisy(trainer.model, noise):
            trainer.train()
        return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


ARGUMENTS: dict[str, Any] = {
    "max_steps": 2,
    "per_device_train_batch_size": 2,
    "logging_steps": 1,
    "learning_rate": 1e-2,
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "use_cpu": True,
    "seed": 0,
}


def _trainer(family: Family, folder: str) -> Any:
    import torch
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainingArguments

    batch = batch_of(family)
    rows = [{name: values[row] for name, values in batch.items()} for row in range(len(LENGTHS))] * 2

    def collate(some: list[dict[str, Any]]) -> dict[str, Any]:
        return {name: torch.stack([row[name] for row in some]) for name in some[0]}

    trainer, arguments = (
        (Seq2SeqTrainer, Seq2SeqTrainingArguments) if family.encoder_decoder else (Trainer, TrainingArguments)
    )
    return trainer(model=family.build(), args=arguments(folder, **ARGUMENTS), train_dataset=rows, data_collator=collate)


def _sft_trainer(family: Family, folder: str) -> Any:
    import datasets
    from datasets.utils import is_progress_bar_enabled
    from trl import SFTConfig, SFTTrainer

    from tests.stress.families.building import tiny_tokenizer

    ids = batch_of(family)["input_ids"]
    rows = [
        {"input_ids": ids[row, :length].tolist(), "completion_mask": [0] * 3 + [1] * (length - 3)}
        for row, length in enumerate(LENGTHS)
    ]
    names = ("activation_checkpointing", "gradient_checkpointing")  # the new name and the old one
    off = {next(name for name in names if hasattr(SFTConfig, name)): False}
    arguments = SFTConfig(folder, max_length=32, bf16=False, **off, **ARGUMENTS)
    bars = is_progress_bar_enabled()
    datasets.disable_progress_bar()
    try:
        return SFTTrainer(
            model=family.build(),
            args=arguments,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=tiny_tokenizer(),
        )
    finally:
        if bars:
            datasets.enable_progress_bar()


def trainer_hook_has_an_effect(family: Family) -> bool:
    """Return whether `neftune_noise_alpha` of the common trainers changes the training loss."""
    model, batch = family.build().train(), batch_of(family)
    clean = loss_of(model, batch)
    with trainer_hook(model):
        return loss_of(model, batch) != clean


def trainer_hook_reaches_every_part(family: Family) -> bool:
    """Return whether it reaches every embedding of the model: in an encoder-decoder, both."""
    from neftune_core.noise.kinds import EMBEDDING_SITE
    from neftune_core.noise.sites import noise_sites

    model, batch = family.build().train(), batch_of(family)
    embeddings = [site.module for site in noise_sites(model) if site.number == EMBEDDING_SITE]
    clean = [_seen_at(embedding, model, batch, None) for embedding in embeddings]
    with trainer_hook(model):
        noisy = [_seen_at(embedding, model, batch, None) for embedding in embeddings]
    return all(bool((after != before).any(-1).all()) for before, after in zip(clean, noisy, strict=True))


CHECKS: dict[str, Check] = {
    "noise reaches the loss": reaches_the_loss,
    "evaluation is clean": evaluation_is_clean,
    "padding is clean": padding_is_clean,
    "a tied head is clean": tied_head_is_clean,
    "gradient checkpointing agrees": checkpointing_agrees,
    "saved weights are untouched": saved_weights_are_untouched,
    "nothing is left": nothing_is_left,
    "works under PEFT": works_under_peft,
    "works under Trainer": works_under_trainer,
    "works under TRL": works_under_trl,
}

COMMON_HOOK: dict[str, Check] = {
    "the common trainer hook has an effect": trainer_hook_has_an_effect,
    "the common trainer hook reaches every part": trainer_hook_reaches_every_part,
}
"""Not the lab's: what `neftune_noise_alpha` does on the same models."""
