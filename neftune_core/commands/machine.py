"""The commands for this machine: `neftune serve`, `models`, `world`, `doctor`, `space` and `bench`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from neftune_core.commands.common import Command, interruptible, progress_line, refuse
from neftune_core.home import home, remove_models, storage
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.device import choose_device, describe_machine
from neftune_core.models.estimates import gigabytes
from neftune_core.models.loading import LoadProgress, load
from neftune_core.models.settings import ModelSettings
from neftune_core.world.pretraining.settings import WorldSettings


@dataclass
class ServeCommand(Command):
    """Open the lab as a web page."""

    host: str | None = None
    """Address to listen on: by default GRADIO_SERVER_NAME or this machine only; 0.0.0.0 for the whole network."""
    port: int | None = None
    """Port: by default GRADIO_SERVER_PORT or the first free port from 7860."""
    password: str | None = None
    """Password that every visitor has to enter (with any user name)."""
    root_path: str | None = None
    """URL path under which a reverse proxy serves the page."""
    share: bool = False
    """Create a public address through Gradio's tunnel."""
    open: bool = False
    """Open the page in the browser."""


@dataclass
class ModelsCommand(Command):
    """List the models available by name, download one in advance, or remove downloaded ones."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """`list`, `get`, or `clean` (remove models that were downloaded from a package index or converted)."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """With `get`: a name from the list, a hub id, a folder or a GGUF file."""


@dataclass
class WorldCommand(Command):
    """Build the bundled model from scratch: text, tokenizer, pretraining, figures and card."""

    action: Annotated[str, tyro.conf.Positional] = "build"
    """`build`; resumes from the last checkpoint after an interruption."""
    folder: Path = Path("world-model")
    """Folder for the finished model."""
    settings: Annotated[WorldSettings, tyro.conf.arg(name="")] = field(default_factory=WorldSettings)
    """The recipe; the bundled model was built with the defaults."""
    home: Path | None = None
    """Folder for work in progress, instead of NEFTUNE_HOME."""


@dataclass
class DoctorCommand(Command):
    """Show the capabilities of this machine, with a reason for anything that is not available."""

    json: bool = False
    """Print JSON."""


@dataclass
class SpaceCommand(Command):
    """Build the folder of a Hugging Face Space, or upload it to your account."""

    action: Annotated[str, tyro.conf.Positional]
    """`build` the folder, or `push` a folder that was built."""
    folder: Annotated[Path, tyro.conf.Positional]
    """A folder that is new, empty or from an earlier build."""
    name: Annotated[str, tyro.conf.Positional] = ""
    """With `push`: the Space as owner/name, or a name in your own account."""
    target: str = "cpu-space"
    """`cpu-space` (free, two cores) or `zerogpu` (a shared GPU, allocated per call)."""
    public: bool = False
    """With `push`: make the Space public instead of private."""


@dataclass
class BenchCommand(Command):
    """Measure this machine: the page, training compared with TRL and under load, noise, and verdicts."""

    what: Annotated[str, tyro.conf.Positional] = "train"
    """`page` (start-up, first figure, slider), `train` (speed and memory compared with TRL), `company` (a study while
    other processes run), `gpu` (arms on a GPU), `noise` (cost of each kind and of the Noise tab), `lengths` (noise
    under each length rule), `evidence` (error rates of the verdict), `cluster` (a sweep on Ray) or `world` (studies on
    the bundled world; one to two hours)."""
    json: bool = False
    """Print JSON instead of Markdown."""
    rows: Path | None = None
    """JSONL file with rows to train on; a starter set by default."""
    model: str = "bundled"
    """The model to train."""
    runs: int = 3
    """Runs per measurement; the median is reported."""
    parts: tuple[str, ...] = ()
    """Measurements to run, all by default: for `train` lora, full, peak, arms, answers, memory, study, usual and
    control; for `company` bfloat16 and float32."""
    first: int = 64
    """For `train` and `company`: number of training rows."""
    steps: int = 20
    """For `train`: steps of the comparison with a plain loop."""
    profile: bool = False
    """For `train`: also profile a LoRA epoch."""
    network: float = 0.0
    """For `page`: speed of an emulated network (latency 40 ms), in Mbit/s; 0 for the machine's own network."""
    device: str = "auto"
    """For `train` and `gpu`: auto, cpu, cuda, cuda:1 or mps."""


def serve(arguments: ServeCommand) -> int:
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


def models(arguments: ModelsCommand) -> int:
    """List, fetch or remove models, and return the exit status.

    Raises:
        LabError: If the model cannot be loaded, or the home folder cannot be used.
        Cancelled: If the user interrupts a download.
    """
    if arguments.action == "clean":
        print(f"removed {gigabytes(remove_models())}")
        return 0
    if arguments.action == "list":
        for name, card in CATALOGUE.items():
            size = f"{card.download_megabytes:5.0f} MB" if card.download_megabytes or not card.origin else " " * 8
            print(f"{name:36} {card.parameters / 1e6:7.0f} M  {size}  {card.licence}")
            print(f"  {card.words}")
            if card.note:
                print(f"  {card.note}")
        return 0
    if arguments.action != "get" or not arguments.name:
        return refuse("Use `neftune models list`, `neftune models get NAME` or `neftune models clean`.")

    show = progress_line()

    def report(progress: LoadProgress) -> None:
        total = progress.total_bytes
        show(progress.what, f"{progress.done_bytes / total:.0%}" if total else "")

    with interruptible() as should_stop:
        loaded = load(ModelSettings(source=arguments.name), progress=report, cancelled=should_stop)
    print(file=sys.stderr)
    print(f"{loaded.name}: {loaded.parameters / 1e6:.1f} M parameters, width {loaded.width}, {loaded.licence}")
    return 0


def world(arguments: WorldCommand) -> int:
    """Build the bundled model and return the exit status."""
    if arguments.action != "build":
        return refuse("Use `neftune world build`.")
    from tqdm import tqdm

    from neftune_core.world.pretraining.build import BuildEvent
    from neftune_core.world.pretraining.make import make

    bar = tqdm(file=sys.stderr)
    for found in make(arguments.folder, arguments.settings):
        if isinstance(found, BuildEvent):
            bar.set_description(f"{found.what} (loss {found.loss:.3f})" if found.what == "step" else found.what)
            bar.total, bar.n = found.total, found.done
            bar.refresh()
        else:
            print(f"{found.name}: {found.share:.1%}")
    bar.close()
    print(f"model: {arguments.folder}")
    return 0


def doctor(arguments: DoctorCommand) -> int:
    """Print the capabilities of this machine and return the exit status.

    Raises:
        NotAvailable: If the home folder cannot be used, as in `home`.
    """
    from neftune_core.bench.gpu import unmeasured_note

    sizes = {f"{name}_bytes": size for name, size in storage().items()}
    facts = {**describe_machine(), "home": str(home()), **sizes}
    untried = unmeasured_note(choose_device("auto"))
    if untried:
        facts["untried"] = untried
    if arguments.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            print(f"{name.replace('_', ' '):24} {value}")
    return 0


def space(arguments: SpaceCommand) -> int:
    """Build or push a Space and return the exit status.

    Raises:
        LabError: If the folder or the target cannot be used, or the hub refuses the upload.
    """
    from neftune_core.space import folder

    if arguments.action == "build":
        written = folder.build(arguments.folder, arguments.target)
        print(f"{len(written)} files in {arguments.folder}; `neftune space push {arguments.folder} NAME` uploads them")
        return 0
    if arguments.action == "push" and arguments.name:
        print(folder.push_space(arguments.folder, arguments.name, private=not arguments.public))
        return 0
    return refuse("Use `neftune space build FOLDER` or `neftune space push FOLDER NAME`.")


def bench(arguments: BenchCommand) -> int:
    """Run a benchmark, print its table and return the exit status."""
    from neftune_core.bench.registry import BENCHMARKS

    if arguments.what not in BENCHMARKS:
        return refuse(f"There is no benchmark {arguments.what!r}: choose one of {', '.join(BENCHMARKS)}.")
    table = BENCHMARKS[arguments.what](arguments)
    print(json.dumps(table.as_json(), indent=2) if arguments.json else table.as_markdown())
    return 0
