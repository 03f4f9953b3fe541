"""Pretraining of the bundled model on a CPU: seeded and resumable.

An interrupted build resumes from `home()/world/<recipe>`, and produces the same weights as an uninterrupted one.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import shutil
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from neftune_core.durable import publish
from neftune_core.home import home
from neftune_core.world.generator import vocabulary
from neftune_core.world.generator.text import ASSISTANT, BEGIN, PAD, SYSTEM, USER, chunk
from neftune_core.world.pretraining.settings import WorldSettings

ROW = 256
PAD_ID = vocabulary.SPECIAL.index(PAD)
_SPOKEN_MARKS = [vocabulary.SPECIAL.index(mark) for mark in (SYSTEM, USER)]
_OTHER_MARKS = [vocabulary.SPECIAL.index(mark) for mark in (PAD, BEGIN, ASSISTANT)]
SPOKEN_WEIGHT = 0.2
ROWS_FILE, CHECKPOINT = "rows.npz", "checkpoint.pt"
BETAS = (0.9, 0.95)
LARGEST_GRADIENT = 1.0


@dataclass(frozen=True)
class BuildEvent:
    """One event of a build: "text", "step", "checkpoint" or "finished".

    Attributes:
        done: Number of chunks for "text", of steps for "step" and "checkpoint", and 1 for "finished".
        total: Planned number of these chunks or steps; 1 for "finished".
        loss: Weighted mean loss over the tokens of a step, in nats; NaN for other events.
    """

    what: str
    done: int
    total: int
    loss: float = math.nan


@dataclass
class History:
    """The course of a run.

    Attributes:
        losses: Loss of every step, in nats.
        seconds: Training time up to the last checkpoint, in seconds.
    """

    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0

    def last_loss(self, over: int = 50) -> float:
        """Return the mean loss of the last `over` steps."""
        return float(np.mean(self.losses[-over:]))


class TokenRows(NamedTuple):
    """The text in rows of `ROW` tokens.

    Attributes:
        ids: Token ids, int16 `[rows, ROW]`.
        documents: Number of the document within its row, from 1; 0 for padding; uint8 `[rows, ROW]`.
        spoken: Whether a token belongs to a user or system message, bool `[rows, ROW]`.
    """

    ids: NDArray[np.int16]
    documents: NDArray[np.uint8]
    spoken: NDArray[np.bool_]


def recipe_folder(settings: WorldSettings) -> Path:
    """Return the folder for work in progress; it depends on all settings except threads and checkpoint interval.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    text = json.dumps(settings.model_dump(exclude={"threads", "checkpoint_steps"}), sort_keys=True)
    folder = home() / "world" / hashlib.sha256(text.encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def pack(lengths: list[int], capacity: int) -> list[list[int]]:
    """Pack documents into rows: longest first, each into the fullest row with enough room.

    Args:
        lengths: Length of each document, in tokens.
        capacity: Tokens per row.

    Returns:
        The document indices of each row.
    """
    room: list[list[int]] = [[] for _ in range(capacity + 1)]
    rows: list[list[int]] = []
    for document in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        length = lengths[document]
        free = next((left for left in range(length, capacity + 1) if room[left]), None)
        if free is None:
            rows.append([])
            row, left = len(rows) - 1, capacity
        else:
            row, left = room[free].pop(), free
        rows[row].append(document)
        room[left - length].append(row)
    return rows


def rows_of(documents: list[list[int]]) -> TokenRows:
    """Pack documents into rows of `ROW` tokens; longer documents are truncated."""
    cut = [document[:ROW] for document in documents]
    packed = pack([len(document) for document in cut], ROW)
    ids = np.full((len(packed), ROW), PAD_ID, dtype=np.int16)
    owners = np.zeros((len(packed), ROW), dtype=np.uint8)
    for row, members in enumerate(packed):
        position = 0
        for owner, member in enumerate(members, start=1):
            end = position + len(cut[member])
            ids[row, position:end] = cut[member]
            owners[row, position:end] = owner
            position = end
    return TokenRows(ids, owners, spoken_by_people(ids))


def shuffle_rows(rows: TokenRows, seed: int, number: int) -> TokenRows:
    """Shuffle the rows of one chunk, which packing has sorted by length.

    Args:
        rows: Rows of the chunk.
        seed: Seed of the order.
        number: Index of the chunk.

    Returns:
        The shuffled rows.
    """
    order = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, number)))).permutation(len(rows.ids))
    return TokenRows(rows.ids[order], rows.documents[order], rows.spoken[order])


def spoken_by_people(ids: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Return a mask of the tokens of user and system messages, up to and including the end of each message."""
    marks = np.full(ids.shape, -1, dtype=np.int8)
    marks[np.isin(ids, _SPOKEN_MARKS)] = 1
    marks[np.isin(ids, _OTHER_MARKS)] = 0
    position = np.where(marks >= 0, np.arange(ids.shape[1]), 0)
    latest = np.maximum.accumulate(position, axis=1)
    return (np.take_along_axis(marks, latest, axis=1) == 1) & (marks != 1)


def _text(settings: WorldSettings, folder: Path) -> Generator[BuildEvent, None, TokenRows]:
    """Yield progress, and return the rows of the whole text, which are cached in `folder`."""
    kept = folder / ROWS_FILE
    if not kept.exists():
        tokenizer = vocabulary.train()
        parts = []
        for number in range(settings.chunks):
            encoded = tokenizer.encode_batch(chunk(number), add_special_tokens=False)
            parts.append(shuffle_rows(rows_of([entry.ids for entry in encoded]), settings.seed, number))
            yield BuildEvent("text", number + 1, settings.chunks)
        partial = folder / "rows.partial.npz"
        np.savez(partial, **TokenRows(*map(np.concatenate, zip(*parts, strict=True)))._asdict())
        publish(partial, kept)
    with np.load(kept) as arrays:
        return TokenRows(**arrays)


def fresh_model(settings: WorldSettings) -> Any:
    """Return a Llama model built from the settings, with initial weights drawn from the seed."""
    config = LlamaConfig(
        vocab_size=vocabulary.train().get_vocab_size(),
        hidden_size=settings.width,
        intermediate_size=settings.inner_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=vocabulary.CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=vocabulary.SPECIAL.index(vocabulary.BEGIN),
        eos_token_id=vocabulary.SPECIAL.index(vocabulary.END),
        pad_token_id=PAD_ID,
        attn_implementation="sdpa",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return LlamaForCausalLM(config)


def learning_rate(step: int, steps: int, settings: WorldSettings) -> float:
    """Compute the learning rate of a step: linear warm-up, constant, then linear decay to zero.

    Before the decay, it does not depend on `steps`, so that a checkpoint can be continued with a different `steps`.

    Args:
        step: The step, from 0.
        steps: Total number of steps.
        settings: The recipe.

    Returns:
        The learning rate.
    """
    rise = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    fall = min(1.0, (steps - step) / max(1.0, settings.decay_share * steps))
    return settings.learning_rate * min(rise, fall)


def _optimizer(model: Any, settings: WorldSettings) -> Any:
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, fused=True)


def batch_loss(model: Any, rows: TokenRows, members: NDArray[np.int64]) -> Any:
    """Compute the weighted mean next-token loss of rows; tokens of user and system messages count `SPOKEN_WEIGHT`.

    Attention does not cross documents, and positions restart in each document.

    Args:
        model: Model to train.
        rows: All rows.
        members: Indices of the rows in the batch, int64 `[batch]`.

    Returns:
        The loss in nats, a scalar tensor.
    """
    tokens = torch.from_numpy(rows.ids[members].astype(np.int64))
    documents = torch.from_numpy(rows.documents[members])
    length = tokens.shape[1]
    same = documents[:, :, None] == documents[:, None, :]
    mask = (same & torch.ones(length, length, dtype=torch.bool).tril())[:, None]
    position = torch.arange(length).expand_as(tokens)
    begins = torch.ones_like(tokens, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    positions = position - torch.where(begins, position, 0).cummax(dim=1).values
    hidden = model.model(input_ids=tokens, attention_mask=mask, position_ids=positions, use_cache=False)
    wanted = (documents[:, 1:] == documents[:, :-1]) & (documents[:, 1:] > 0)
    logits = model.lm_head(hidden.last_hidden_state[:, :-1][wanted])
    losses = F.cross_entropy(logits, tokens[:, 1:][wanted], reduction="none")
    weights = torch.where(torch.from_numpy(rows.spoken[members])[:, 1:][wanted], SPOKEN_WEIGHT, 1.0)
    return (losses * weights).sum() / weights.sum()


def build(folder: Path, settings: WorldSettings | None = None) -> Iterator[BuildEvent]:
    """Train the model and move it to `folder` when complete.

    Args:
        folder: Folder for the model.
        settings: The recipe; the defaults if None.

    Yields:
        One event per chunk, step and checkpoint, and finally "finished".
    """
    settings = settings or WorldSettings()
    work = recipe_folder(settings)
    rows = yield from _text(settings, work)
    before = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        model = fresh_model(settings)
        yield from _pretrain(model, rows, settings, work)
        save(model, folder)
        yield BuildEvent("finished", 1, 1)
    finally:
        torch.set_num_threads(before)


def _pretrain(model: Any, rows: TokenRows, settings: WorldSettings, work: Path) -> Iterator[BuildEvent]:
    steps = len(rows.ids) // settings.batch_rows
    optimizer = _optimizer(model, settings)
    history = _restore(model, optimizer, work)
    step, began = len(history.losses), time.monotonic() - history.seconds
    model.train()
    while step < steps:
        members = np.arange(step * settings.batch_rows, (step + 1) * settings.batch_rows)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, settings)
        loss = batch_loss(model, rows, members)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        history.losses.append(loss.item())
        yield BuildEvent("step", step, steps, history.losses[-1])
        if step % settings.checkpoint_steps == 0 or step == steps:
            history.seconds = time.monotonic() - began
            _save_checkpoint(model, optimizer, history, work)
            yield BuildEvent("checkpoint", step, steps)
    model.eval()


def _save_checkpoint(model: Any, optimizer: Any, history: History, work: Path) -> None:
    partial = work / "checkpoint.partial"
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "history": vars(history)}
    torch.save(state, partial)
    publish(partial, work / CHECKPOINT)


def _restore(model: Any, optimizer: Any, work: Path) -> History:
    """Load the checkpoint, if there is one, and return its history."""
    if not (work / CHECKPOINT).exists():
        return History()
    state = torch.load(work / CHECKPOINT, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return History(**state["history"])


def history_of(settings: WorldSettings) -> History:
    """Return the losses and time of this recipe up to its last checkpoint; empty if there is none."""
    kept = recipe_folder(settings) / CHECKPOINT
    return History(**torch.load(kept, weights_only=True)["history"]) if kept.exists() else History()


def tokens_of(settings: WorldSettings) -> int:
    """Return the number of tokens in the cached rows of this recipe; 0 if they do not exist yet."""
    kept = recipe_folder(settings) / ROWS_FILE
    if not kept.exists():
        return 0
    with np.load(kept) as arrays:
        return int((arrays["documents"] > 0).sum())


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def save(model: Any, folder: Path) -> None:
    """Write a complete bfloat16 model with its tokenizer; other files in the folder, such as the card, are kept.

    Args:
        model: The trained model.
        folder: The folder to write to.
    """
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    kept = copy.deepcopy(model).to(torch.bfloat16)
    kept.generation_config.max_new_tokens = 128
    with _no_progress_bar():
        kept.save_pretrained(str(partial))
    vocabulary.as_transformers(vocabulary.train()).save_pretrained(str(partial))
    folder.mkdir(parents=True, exist_ok=True)
    weights_last = sorted(partial.iterdir(), key=lambda path: (path.suffix == ".safetensors", path.name))
    for path in weights_last:
        publish(path, folder / path.name)
    partial.rmdir()
