"""NEFTune Lab: measure the effect of embedding noise on a language model during instruction tuning.

Modules import only from layers below their own; import-linter checks this. The layers, from top to bottom:

    cli            the `neftune` command
    commands       one module per group of commands: options and actions
    bench          benchmarks of the user's machine: the page, training, training under load, error rates
    ui             assembly of the page; the only package that imports Gradio
      sharing        links with QR codes, shared finished studies, and classes
      tabs           one file per tab, the helpers of each tab, and `views` inside the tabs
      parts          shared components: controls, live figure, status strip, answers, verdicts, page state
      server         launch, admission, rate limits, uploads, logs, the first view
        api            HTTP endpoints with positional or named arguments, and tools for agents
    python_api     studies from Python and notebooks
    space          Hugging Face Spaces: profiles, upload of the code, ZeroGPU, accounts
    export         adapters, merged models, archives, model cards, scripts for other trainers, HTML reports
    figures        Plotly figures as plain data, from records and arrays; pure functions that do not import Plotly
    lessons        lesson files, demonstrations of faults in a common script, facts used in tasks
    sweeps         many studies from one file: settings, record, table, time estimate, local or on Ray, job queue
    studies        one study: settings, run, checkpoints, measuring, judging
      records        a study on disk: log, owner, lock, numbers, limits on every field
      steering       changes to a running study: keeping the best evaluation, early stopping, stopping one arm
      sharing        links to one study, and classes with members who see each other's studies
      language_judge  comparison of two arms' answers by a language model of the user's choice
      trained        measurements of trained arms: answers, loss per token, robustness to noise, updates by layer
    evaluation     generation for all arms at once, measures, statistics, the verdict, effects of noise inside a model
    engine         the training step: stacked adapters and full copies, loss, passes, lockstep, optimizer
      methods        other training methods, one file each: setting, description, formula, and hook in the step
    data           examples, chat rendering and labels, batches, the report on how rows are read
      formats        files and hub data sets to rows, read in a separate process
    models         cards of known models, cost estimates, loading, this machine
      architecture   the parts of a model, its caches, trial runs before admission, where noise and adapters apply
      sources        model sources: hub, mirror, folder, GGUF, package index
    world          the bundled world (an invented village): scoring of answers about it
      generator      its text: grammar, facts, stories, instruction sets
      pretraining    training of the bundled model on that text
    noise          kinds, strength, schedules, sites, batched draws, noise on a live model, the preview
    randomness     private random streams, one per purpose
    settings       settings declared once, for page, command line, TOML, links and validation
    setting_errors validation errors of settings as one sentence
    bounded_io     reading with limits on size, number of values and depth
    sentences      exceptions as one sentence for users
    language       English and Simplified Chinese
    javascript     bundles JavaScript modules into one script
    home           file locations
    durable        atomic and durable files and folders
    errors         the exceptions shown to users
    version        the version of this installation

Outside the package, `app.py` starts the page, and `assets/page` contains its scripts, styles and HTML templates.
`assets/catalogue.toml` lists the known models, `assets/layouts.toml` the layouts of rows, `assets/presets.toml` the
presets for training, `assets/measures.toml` the measures, `assets/verdict_sentences.toml` the sentences of verdicts,
`assets/theme.toml` the variables of Gradio's theme, and `assets/hub_errors.toml` the errors for users about failures of
the hub. `assets/language`, `assets/lessons`, `assets/starters` and `assets/recorded` contain translations, lessons,
data sets and finished sweeps. `assets/docs/contributing.md` describes how to extend the lab, and `tests/README.md`
where to add a test.

Data flows one way: upload, data, study, training (events), record, evaluation, figures, ui.

The main entry points are `noisy_embeddings`, which adds the noise to any training loop, and `run_study`, which runs a
whole study.

    from neftune_core import NoiseSettings, StudySettings, noisy_embeddings, run_study

    with noisy_embeddings(trainer.model, NoiseSettings(strength=5)):
        trainer.train()

    result = run_study(StudySettings(noise=[NoiseSettings(strength=5)], seeds=6))
    print(result.verdict)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from neftune_core.version import __version__

if TYPE_CHECKING:
    from neftune_core.data.settings import DataSettings
    from neftune_core.engine.settings import TrainingSettings
    from neftune_core.models.settings import ModelSettings
    from neftune_core.noise.attach import noisy_embeddings
    from neftune_core.noise.settings import NoiseSettings
    from neftune_core.python_api import compare, open_study, run_study, start_study
    from neftune_core.studies.settings import StudySettings

__all__ = [
    "DataSettings",
    "ModelSettings",
    "NoiseSettings",
    "StudySettings",
    "TrainingSettings",
    "__version__",
    "compare",
    "noisy_embeddings",
    "open_study",
    "run_study",
    "start_study",
]

_HOMES = {
    "DataSettings": "neftune_core.data.settings",
    "ModelSettings": "neftune_core.models.settings",
    "NoiseSettings": "neftune_core.noise.settings",
    "StudySettings": "neftune_core.studies.settings",
    "TrainingSettings": "neftune_core.engine.settings",
    "compare": "neftune_core.python_api",
    "noisy_embeddings": "neftune_core.noise.attach",
    "open_study": "neftune_core.python_api",
    "run_study": "neftune_core.python_api",
    "start_study": "neftune_core.python_api",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that importing the package does not import torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if _HOMES[name].endswith("python_api"):
        from neftune_core.models.threads import prepare_waiting

        prepare_waiting()  # before torch is imported
    return getattr(import_module(_HOMES[name]), name)
