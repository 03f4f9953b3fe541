"""NEFTune Lab: what does noise on the embeddings do to a language model while it is fine-tuned on instructions?

The map, from the page down to the mechanism; imports go downwards only.

    cli            the command `neftune`, and the way into
    commands       what each of its commands is given and does
    bench          measuring this machine: the page and the training
    ui             the page, one file a tab; the only part that knows Gradio
    space          what makes a Space: profiles, the folder that is pushed, ZeroGPU
    export         what is taken away: merged models, archives, model cards, scripts for other machines, reports
    figures        records and arrays to Plotly figures; pure; the only part that knows Plotly
    lessons        the lessons' files, the faults of a common snippet as runs, what a study shows as facts
    training       a study: settings, the lockstep loop, its record, jobs and their queue; sweeps; several processes
    evaluation     clean losses, answers of the base and all arms at once, measures of texts, statistics, the verdict
    arms           stacked adapters (LoRA) over one frozen base; the loss in pieces; saving an arm
    data           formats in, examples, chat rendering and labels, batches, starter sets
    models         catalogue, loading, the anatomy of each family, this machine
    world          the bundled world: its grammar, texts, instruction sets and scoring
    noise          kinds, strength, schedules, sites, one draw for all arms, noise on a live model, the preview
    randomness     private streams of random numbers, one a purpose
    settings       a setting is declared once: page, command line, TOML, link and validation come from it
    sentences      any exception as one sentence for a person
    language       English, and the same in the other language of the page
    home           where files live
    durable        files and folders that appear whole and survive a power cut
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
