"""A common short NEFTune training script, with five possible faults.

It fine-tunes all weights of a copy of a model in a plain loop, as configured by a `ScriptVariant`. Every evaluation
gives two values: the value reported by the script, and the true value (loss on the response only, noise off, the prompt
as in training).
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from neftune_core.data.formats.starters import held_out_file, starter_file
from neftune_core.lessons.faults import RunMeasurements, ScriptVariant
from neftune_core.models.loading import LoadedModel
from neftune_core.noise.attach import noisy_embeddings
from neftune_core.randomness import Purpose, stream

STARTER = "world-format"
PROMPT = "### Question:\n{question}\n### Answer:\n"
NOT_A_LABEL = -100
EVALUATIONS = 6
SEED = 0
HELD_OUT_ROWS = 48


@dataclass(frozen=True)
class _EncodedRow:
    """One row as the script encodes it.

    Attributes:
        ids: Token ids of the prompt and the response.
        prompt: Number of tokens in the prompt.
    """

    ids: list[int]
    prompt: int


class _HidingWrapper(nn.Module):
    """The wrapper of the fifth fault. It stores the model in a list, where `nn.Module` does not find it.

    The wrapper's `train`, `eval`, `parameters` and `state_dict` methods therefore never reach the model.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.hidden = [model]

    def forward(self, **given: Any) -> Any:
        return self.hidden[0](**given)


def run_script(loaded: LoadedModel, script: ScriptVariant) -> Iterator[RunMeasurements]:
    """Run the script on a copy of a causal model.

    Row order and noise depend only on `SEED`, so two scripts differ only in their settings.

    Args:
        loaded: The model; it is not changed.
        script: The variant of the script.

    Yields:
        The same `RunMeasurements` object after every step, and once more at the end.

    Raises:
        InvalidSetting: If the noise settings do not suit the model.
        NoEffect: If the noise would not reach the model's output.
    """
    model = _trainable_copy(loaded)
    train = _read_rows(loaded, starter_file(STARTER))
    held_out = _read_rows(loaded, held_out_file(STARTER), HELD_OUT_ROWS)
    trainer = _HidingWrapper(model) if script.model_hidden else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=script.learning_rate, weight_decay=0.0)
    found = RunMeasurements(script.steps)
    due = {max(1, round(script.steps * part / EVALUATIONS)) for part in range(1, EVALUATIONS + 1)}
    with noisy_embeddings(model, script.noise, SEED):
        for step, indices in enumerate(_batches_of_rows(len(train), script), start=1):
            for group in optimizer.param_groups:
                group["lr"] = script.learning_rate * (1 - (step - 1) / script.steps)
            trainer.train()
            loss = _step(trainer, [train[index] for index in indices], script, loaded)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            found.steps.append(step)
            found.training_losses.append(loss)
            if step in due:
                _evaluate(trainer, model, held_out, script, loaded, found)
            yield found
    saved = trainer.state_dict()
    found.exact_saved = _exact_when_restored(saved, held_out, loaded)
    found.saved = len(saved)
    yield found


def _trainable_copy(loaded: LoadedModel) -> nn.Module:
    """Return a float32 copy of the model with trainable weights, in evaluation mode."""
    return copy.deepcopy(loaded.model).float().requires_grad_(True).eval()


def _read_rows(loaded: LoadedModel, file: Any, most: int | None = None) -> list[_EncodedRow]:
    """Read the first `most` rows (all if None) with `instruction` and `output`, and encode them as the script does."""
    lines = file.read_text(encoding="utf-8").splitlines()[:most]
    return [_row(json.loads(line), loaded.tokenizer) for line in lines]


def _row(fields: dict[str, str], tokenizer: Any) -> _EncodedRow:
    question = "\n".join(part for part in (fields["instruction"], fields.get("input", "")) if part)
    prompt = _tokens(PROMPT.format(question=question), tokenizer)
    return _EncodedRow([*prompt, *_tokens(fields["output"], tokenizer), tokenizer.eos_token_id], len(prompt))


def _tokens(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _batches_of_rows(rows: int, script: ScriptVariant) -> Iterator[list[int]]:
    """Yield the row indices of each step, epoch after epoch."""
    done = epoch = 0
    while True:
        order = stream(Purpose.ORDER, SEED, epoch).permutation(rows).tolist()
        for start in range(0, rows - script.batch_size + 1, script.batch_size):
            if done == script.steps:
                return
            yield order[start : start + script.batch_size]
            done += 1
        epoch += 1


def _collate_rows(rows: Sequence[_EncodedRow], loaded: LoadedModel) -> tuple[Tensor, Tensor, Tensor]:
    """Return token ids, attention mask and labels (response only), right-padded, each int64 `[batch, length]`."""

    def padded(table: list[list[int]], padding: int) -> Tensor:
        """Return rows as one tensor, padded on the right.

        Args:
            table: The rows.
            padding: Value of the padding.

        Returns:
            int64 `[batch, length]`.
        """
        return pad_sequence([torch.tensor(row) for row in table], True, padding).to(loaded.device)

    return (
        padded([row.ids for row in rows], loaded.tokenizer.pad_token_id or 0),
        padded([[1] * len(row.ids) for row in rows], 0),
        padded([[NOT_A_LABEL] * row.prompt + row.ids[row.prompt :] for row in rows], NOT_A_LABEL),
    )


def _step(trainer: nn.Module, rows: Sequence[_EncodedRow], script: ScriptVariant, loaded: LoadedModel) -> float:
    """Compute the gradients of one step and return the loss that the script reports."""
    losses, _ = _measure(trainer, rows, loaded, everything=script.loss_on_everything)
    loss = losses.mean()
    loss.backward()
    return float(loss.detach())


def _measure(
    model: nn.Module, rows: Sequence[_EncodedRow], loaded: LoadedModel, *, everything: bool = False
) -> tuple[Tensor, float]:
    """Return the loss of every response token, and the share of rows in which each of them is the most probable token.

    With `everything`, the loss includes the prompt and the padding.
    """
    ids, mask, labels = _collate_rows(rows, loaded)
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    targets, wanted = (ids if everything else labels)[:, 1:], labels[:, 1:]
    chosen = targets != NOT_A_LABEL
    exact = ((logits.argmax(-1) == wanted) | (wanted == NOT_A_LABEL)).all(1)
    return F.cross_entropy(logits[chosen].float(), targets[chosen], reduction="none"), float(exact.float().mean())


@torch.no_grad()
def _evaluate(
    trainer: nn.Module,
    model: nn.Module,
    rows: list[_EncodedRow],
    script: ScriptVariant,
    loaded: LoadedModel,
    found: RunMeasurements,
) -> None:
    """Measure the held-out rows both as the script does and correctly."""
    if not script.noise_while_evaluating:
        trainer.eval()
    given = [_without_newline(row) for row in rows] if script.newline_lost else rows
    reported, found.exact_reported = _measure(trainer, given, loaded, everything=script.loss_on_everything)
    training = model.training
    model.eval()
    true, found.exact_true = _measure(model, rows, loaded)
    model.train(training)
    found.evaluated_at.append(found.steps[-1])
    found.reported.append(float(reported.mean()))
    found.true.append(float(true.mean()))


def _without_newline(row: _EncodedRow) -> _EncodedRow:
    """Return the row without the last token of its prompt, a newline."""
    return _EncodedRow([*row.ids[: row.prompt - 1], *row.ids[row.prompt :]], row.prompt - 1)


@torch.no_grad()
def _exact_when_restored(saved: dict[str, Tensor], rows: Sequence[_EncodedRow], loaded: LoadedModel) -> float:
    """Return the share of exact answers of a model restored from the saved tensors; missing weights are untrained."""
    model = _trainable_copy(loaded)
    model.load_state_dict(saved, strict=False)
    return _measure(model, rows, loaded)[1]
