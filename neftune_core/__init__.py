"""NEFTune Lab: what does noise on the embeddings do to a language model while it is fine-tuned on instructions?

The map, from the page down to the mechanism. Imports go downwards only; import-linter checks it.

    cli            the command `neftune`
    commands       one module per group of commands: their options and what they do
    bench          what a user measures on their own machine: the page, training, other work beside it
    ui             the page; the only part that knows Gradio
      tabs           one file per tab, with the files that only it uses
      parts          shared components: controls, the live figure, the strip, answers, verdicts, the page's state
      server         launching, admission, rate limits, uploads, logs, the first view, the HTTP API
    space          Hugging Face Spaces: profiles, the folder that is pushed, ZeroGPU, accounts
    export         adapters, merged models, archives, model cards, scripts for other trainers, HTML reports
    figures        records and arrays to Plotly figures; pure; the only part that knows Plotly
    lessons        lesson files, the faults of a common snippet as runs, facts that exercises ask for
    sweeps         many studies from one file: settings, record, table, time estimate, run here or on Ray
    studies        one study: settings, run, checkpoints, jobs and their queue, measuring, judging
      records        what a study leaves on disk: log, owner, lock, numbers, limits of every part
    evaluation     answers of all arms at once, measures of texts, statistics, the verdict
    engine         from a batch to a step: stacked adapters and full copies, loss, passes, lockstep, optimizer
    data           examples, chat rendering and labels, batches, the report on how rows are read
      formats        files and hub data sets to rows, read in a process of their own
    models         catalogue, loading, the anatomy of each family, this machine
      sources        ways to a model: hub, mirror, folder, GGUF, package index
    world          the bundled world: scoring at run time
      generator      its text: grammar, facts, stories, instruction sets
      pretraining    how the bundled model is made from that text
    noise          kinds, strength, schedules, sites, one draw for all arms, noise on a live model, the preview
    randomness     private streams of random numbers, one per purpose
    settings       a setting is declared once: page, command line, TOML, link and validation follow
    sentences      any exception as one sentence for a person
    language       English and Simplified Chinese
    durable        files that appear whole and survive a power cut
    bounded        reading with limits on bytes, values and depth
    home           where files live
    errors         everything that can go wrong for a person, as one tree

Data goes one way: upload, data, study, training (events), record, evaluation, figures, ui.

The public names work under anybody's training loop:

    from neftune_core import NoiseSettings, noisy_embeddings

    with noisy_embeddings(trainer.model, NoiseSettings(strength=5)):
        trainer.train()
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neftune_core.noise.attach import noisy_embeddings
    from neftune_core.noise.settings import NoiseSettings

__all__ = ["NoiseSettings", "__version__", "noisy_embeddings"]

try:
    __version__ = version("neftune-lab")
except PackageNotFoundError:
    __version__ = "0+unknown"

_HOMES = {"NoiseSettings": "neftune_core.noise.settings", "noisy_embeddings": "neftune_core.noise.attach"}


def __getattr__(name: str) -> Any:
    """The public names on first use: importing the package must not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
