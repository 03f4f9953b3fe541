"""The commands on this machine: `neftune serve`, `models`, `world`, `doctor`, `space` and `bench`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from neftune_core.commands.common import interruptible, refuse
from neftune_core.world.pretraining.settings import WorldSettings


@dataclass
class Serve:
    """Open the lab as a web page."""

    host: str | None = None
    """Address to listen on; 0.0.0.0 for other machines of the network. GRADIO_SERVER_NAME, else this machine alone."""
    port: int | None = None
    """Port. GRADIO_SERVER_PORT, else the first free one from 7860 on."""
    password: str | None = None
    """Ask every visitor for this password (any name)."""
    root_path: str | None = None
    """The path of the address under which a proxy serves the page."""
    share: bool = False
    """Make a public address through the framework's own tunnel."""
    open: bool = False
    """Open the page in the browser."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Models:
    """List the models offered by name, bring one here before it is needed, or remove what was brought."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """`list`, `get`, or `clean` (remove what the lab fetched from a package index or converted)."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """With `get`: a name of the list, a hub id, a folder or a GGUF file."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class World:
    """Make the bundled model from nothing: text, tokenizer, pretraining, its figures and its card."""

    action: Annotated[str, tyro.conf.Positional] = "build"
    """`build`; called again after a break, it goes on from the last checkpoint."""
    folder: Path = Path("world-model")
    """Where the finished model is written."""
    settings: Annotated[WorldSettings, tyro.conf.arg(name="")] = field(default_factory=WorldSettings)
    """The recipe; the defaults made the model that ships."""
    home: Path | None = None
    """Folder for work in progress, instead of NEFTUNE_HOME."""


@dataclass
class Doctor:
    """Say what this machine can do, and why not."""

    json: bool = False
    """Print JSON."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Space:
    """Make the folder of a Hugging Face Space, or put it into your account."""

    action: Annotated[str, tyro.conf.Positional]
    """`build` a folder, or `push` a built one."""
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder: new, empty, or built before."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """With `push`: the Space, as owner/name, or a name in your own account."""
    target: str = "cpu-space"
    """`cpu-space` (two cores, free) or `zerogpu` (a GPU lent for the time of a call)."""
    public: bool = False
    """With `push`: everybody sees it; else it is private."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Bench:
    """Measure this machine: the page, training beside TRL and beside other work, noise, evidence."""

    what: Annotated[str, tyro.conf.Positional] = "train"
    """`page` (start, first picture, slider), `train` (speed and memory, beside TRL), `company` (a study beside other
    work on the machine), `gpu` (arms on a GPU), `noise` (the cost of each kind), `lengths` (what each length rule
    adds), `preview` (the numbers of the Noise tab), `evidence` (how often the verdict is right), `cluster` (a sweep on
    Ray) or `world` (studies on the bundled world; an hour or two)."""
    json: bool = False
    """Print JSON instead of Markdown."""
    rows: Path | None = None
    """JSONL rows to train on; a starter set by default."""
    model: str = "bundled"
    """The model to train."""
    runs: int = 3
    """Runs of each, in turn; medians are reported."""
    parts: tuple[str, ...] = ()
    """Only these of `train` (lora, full, peak, arms, answers, memory, study, usual, control) or `company` (float32,
    bfloat16)."""
    first: int = 64
    """Of `train` and `company`: the first rows that are trained on."""
    steps: int = 20
    """Of `train`: steps of the control beside a plain loop."""
    profile: bool = False
    """Of `train`: also where the time of a step goes."""
    device: str = "auto"
    """Of `train` and `gpu`: auto, cpu, cuda, cuda:1 or mps."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


def serve(arguments: Serve) -> int:
    """Serve the page until the process is ended."""
    from neftune_core.ui.server.serve import serve

    serve(
        host=arguments.host,
        port=arguments.port,
        password=arguments.password,
        root_path=arguments.root_path,
        share=arguments.share,
        open_browser=arguments.open,
    )
    return 0


def models(arguments: Models) -> int:
    """List, fetch or remove models; the exit status. Raises a `LabError`."""
    from neftune_core.models.catalogue import CATALOGUE, gigabytes

    if arguments.action == "clean":
        from neftune_core.home import remove_models

        print(f"removed {gigabytes(remove_models())}")
        return 0
    if arguments.action == "list":
        for name, card in CATALOGUE.items():
            print(f"{name:36} {card.parameters / 1e6:7.0f} M  {card.download_megabytes:5.0f} MB  {card.licence}")
            if card.note:
                print(f"  {card.note}")
        return 0
    if arguments.action != "get" or not arguments.name:
        return refuse("Say `neftune models list`, `neftune models get NAME`, or `neftune models clean`.")
    from neftune_core.models.loading import load
    from neftune_core.models.settings import ModelSettings

    with interruptible() as should_stop:
        loaded = load(ModelSettings(source=arguments.name), progress=_print_progress, cancelled=should_stop)
    print(f"\n{loaded.name}: {loaded.parameters / 1e6:.1f} M parameters, width {loaded.width}, {loaded.licence}")
    return 0


def _print_progress(progress: Any) -> None:
    share = f" {100 * progress.done_bytes / progress.total_bytes:.0f} %" if progress.total_bytes else ""
    print(f"\r{progress.what}{share}   ", end="", file=sys.stderr, flush=True)


def world(arguments: World) -> int:
    """Make the bundled model; the exit status. Raises a `LabError`."""
    if arguments.action != "build":
        return refuse("Say `neftune world build`.")
    from tqdm import tqdm

    from neftune_core.world.pretraining.build import Built
    from neftune_core.world.pretraining.make import make

    bar = tqdm(file=sys.stderr)
    for found in make(arguments.folder, arguments.settings):
        if isinstance(found, Built):
            bar.set_description(f"{found.what} (loss {found.loss:.3f})" if found.what == "step" else found.what)
            bar.total, bar.n = found.total, found.done
            bar.refresh()
        else:
            print(f"{found.name}: {found.share:.1%}")
    bar.close()
    print(f"model: {arguments.folder}")
    return 0


def doctor(arguments: Doctor) -> int:
    """Print what this machine can do; the exit status."""
    from neftune_core.bench.gpu import untried_words
    from neftune_core.home import home, storage
    from neftune_core.models.device import choose_device, describe_machine

    sizes = {f"{name}_bytes": size for name, size in storage().items()}
    facts = {**describe_machine(), "home": str(home()), **sizes}
    untried = untried_words(choose_device("auto"))
    if untried:
        facts["untried"] = untried
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):24} {value}")
    return 0


def space(arguments: Space) -> int:
    """Build or push a Space; the exit status. Raises a `LabError`."""
    from neftune_core.space import account, folder

    if arguments.action == "build":
        written = folder.build(arguments.folder, arguments.target)
        print(
            f"{len(written)} files in {arguments.folder}; `neftune space push {arguments.folder} NAME` puts it online"
        )
        return 0
    if arguments.action == "push" and arguments.name:
        print(account.push_space(arguments.folder, arguments.name, private=not arguments.public))
        return 0
    return refuse("Say `neftune space build FOLDER`, or `neftune space push FOLDER NAME`.")


def bench(arguments: Bench) -> int:
    """Measure, and print the table; the exit status. Raises a `LabError`."""
    from neftune_core.bench import BENCHMARKS

    if arguments.what not in BENCHMARKS:
        return refuse(f"There is no benchmark {arguments.what!r}: choose one of {', '.join(BENCHMARKS)}.")
    table = BENCHMARKS[arguments.what](arguments)
    print(json.dumps(table.as_json(), indent=2) if arguments.json else table.as_markdown())
    return 0
