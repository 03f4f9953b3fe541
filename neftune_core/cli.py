"""The command `neftune`: serve, train, sweep, compare, report, script, runs, models, world, doctor, space, bench.

Exit status 0 only if what was asked for was done; one plain sentence on standard error otherwise.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from neftune_core.cli_compare import Compare, compare
from neftune_core.cli_sweep import Sweep
from neftune_core.errors import Cancelled, InvalidSetting, LabError, sentence
from neftune_core.settings import Limits, from_toml, to_toml
from neftune_core.training.settings import EXAMPLE, StudySettings
from neftune_core.world.settings import WorldSettings

if TYPE_CHECKING:
    from neftune_core.training.record import Record


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
class Train:
    """Train a study from a TOML file, without the page. Every setting of the file can be changed here."""

    file: Annotated[Path | None, tyro.conf.Positional] = None
    """The study, as `neftune train --example` prints one."""
    example: bool = False
    """Print a complete, commented study.toml for the bundled model and end."""
    resume: bool = False
    """Go on with the unfinished record of this very study; start it where there is none."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""
    study: Annotated[StudySettings, tyro.conf.arg(name="")] = field(default_factory=lambda: EXAMPLE)
    """The settings."""


@dataclass
class Report:
    """Write a record as one HTML file: figures, answers and settings, without any network."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder), or its folder."""
    out: Annotated[Path, tyro.conf.Positional]
    """The file to write."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Script:
    """Write a record as a script for transformers and PEFT, with the rows, their order and the initial adapter."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder), or its folder."""
    folder: Annotated[Path, tyro.conf.Positional]
    """The folder to write it into; made if missing."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Verdict:
    """Say what the noise of a record did, by how much and how surely, from what the record keeps."""

    record: Annotated[str, tyro.conf.Positional]
    """The record's id (the name of its folder), or its folder."""
    json: bool = False
    """Print JSON: the verdict with the numbers behind it, and every measure of every arm."""
    measure: str | None = None
    """Ask about another measure than the one named before the run, after looking."""
    epoch: str | None = None
    """`last` or `best`, likewise."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


@dataclass
class Runs:
    """List the records of this machine, go on with one, take one elsewhere, or remove some."""

    action: Annotated[str, tyro.conf.Positional] = "list"
    """`list`, `resume`, `remove` or `export` (the one named), `import` (a zip file of another machine's lab), or
    `clean` (all that have not been written for so many days)."""
    record: Annotated[str, tyro.conf.Positional] = ""
    """With `resume`, `remove` and `export`: the record's id (the name of its folder). With `import`: the zip file."""
    to: Path | None = None
    """With `export`: what is written, a zip file; or, with `--form`, a folder. ID.zip, or the arm's name, else."""
    form: str = "record"
    """With `export`: `record` (all of it), or one arm as `adapter` (PEFT) or `merged` (transformers)."""
    arm: str = "control"
    """With `export` of an arm: its name."""
    seed: int | None = None
    """With `export` of an arm: its seed; the first one of the record by default."""
    days: float | None = None
    """With `clean`: the days."""
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
    """Measure this machine, or what the lab promises: the page, training beside TRL, noise, families, evidence."""

    what: Annotated[str, tyro.conf.Positional] = "train"
    """`page` (start, first picture, slider), `train` (speed and memory, beside TRL), `gpu` (arms on a GPU), `noise`
    (what each kind costs), `lengths` (what each length rule adds), `preview` (the Noise tab's numbers), `families`
    (every family of models against its own code), `evidence` (how often the verdict is right), `faults` (what a study
    survives: killed, stopped, full disk and the like), `fuzz` (two thousand hostile uploads and calls), `load` (many
    users at once; half an hour) or `world` (what studies on the bundled world show; an hour or two)."""
    json: bool = False
    """Print JSON instead of Markdown."""
    rows: Path | None = None
    """JSONL rows to train on; a starter set by default."""
    file: Path | None = None
    """Of `families`: a file that gets the outcomes as JSON (assets/docs/families.json is what the page shows)."""
    model: str = "bundled"
    """The model to train."""
    runs: int = 3
    """Runs of each, in turn; medians are reported."""
    parts: tuple[str, ...] = ()
    """Only these of `train` (lora, full, peak, arms, answers, memory, study, control) or `load` (noise, studies, mixed,
    killed)."""
    first: int = 64
    """Of `train`: the first rows that are trained on."""
    steps: int = 20
    """Of `train`: steps of the control beside a plain loop."""
    profile: bool = False
    """Of `train`: also where the time of a step goes."""
    device: str = "auto"
    """Of `train` and `gpu`: auto, cpu, cuda, cuda:1 or mps."""
    home: Path | None = None
    """Folder for records and models, instead of NEFTUNE_HOME."""


def main() -> None:
    """Run the command line; ends the process with its status."""
    try:
        status = _main(sys.argv[1:])
    except (LabError, Cancelled) as error:
        status = _refuse(str(error))
    except KeyboardInterrupt:
        status = _refuse("Stopped as asked.")
    except BrokenPipeError:
        status = 1
    except Exception as error:
        status = _refuse(sentence(error))
    sys.exit(status)


def _refuse(words: str) -> int:
    print(words, file=sys.stderr)
    return 1


def _main(arguments: list[str]) -> int:
    commands: dict[str, tuple[type, Callable[[Any], int]]] = {
        "serve": (Serve, _serve),
        "train": (Train, _train),
        "sweep": (Sweep, _sweep),
        "compare": (Compare, compare),
        "report": (Report, _report),
        "script": (Script, _script),
        "verdict": (Verdict, _verdict),
        "runs": (Runs, _runs),
        "models": (Models, _models),
        "world": (World, _world),
        "doctor": (Doctor, _doctor),
        "space": (Space, _space),
        "bench": (Bench, _bench),
    }
    if not arguments or arguments[0] not in commands:
        return _overview(arguments, {name: cls for name, (cls, _) in commands.items()})
    cls, run = commands[arguments[0]]
    default = _train_defaults(arguments[1:]) if cls is Train else None
    parsed = _parsed(cls, arguments, default)
    if parsed.home is not None:
        os.environ["NEFTUNE_HOME"] = str(parsed.home)
    _log_to_file()
    return run(parsed)


def _log_to_file() -> None:
    """Faults of the lab go to `lab.log` under its home, not to the person's screen."""
    from neftune_core.home import home

    log = logging.getLogger("neftune_core")
    log.addHandler(logging.FileHandler(home() / "lab.log", delay=True, encoding="utf-8"))
    log.propagate = False


def _parsed(cls: type, arguments: list[str], default: Any) -> Any:
    """The options of one command; what cannot be read is told in one sentence, without a box around it."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(cls, prog=f"neftune {arguments[0]}", args=arguments[1:], default=default)
    except SystemExit as end:
        if not end.code:
            raise
    words = [line.strip("│╭╮╰╯─ ") for line in said.getvalue().splitlines()]
    told = " ".join(word for word in words if word and not word.startswith(("For full helptext", "Parsing error")))
    raise InvalidSetting(f"{told[:300]} (`neftune {arguments[0]} --help` lists the options.)")


def _overview(arguments: list[str], commands: dict[str, type]) -> int:
    asked = not arguments or arguments[0] in ("-h", "--help")
    lines = ["usage: neftune COMMAND [OPTIONS]; `neftune COMMAND --help` says more.", ""]
    lines += [f"  {name:9} {(cls.__doc__ or '').splitlines()[0]}" for name, cls in commands.items()]
    if asked:
        print("\n".join(lines))
        return 0
    return _refuse(f"There is no command {arguments[0]!r}: choose one of {', '.join(commands)}.")


def _train_defaults(arguments: list[str]) -> Train | None:
    """The study of the file named first, so that its values are the defaults of the options."""
    if not arguments or arguments[0].startswith("-"):
        return None
    return Train(file=Path(arguments[0]), study=read_study(Path(arguments[0])))


def read_study(path: Path) -> StudySettings:
    """The study in a TOML file; file names in it are relative to the file. Raises `InvalidSetting`."""
    from neftune_core.training.own_rows import located

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"The study {path} cannot be read: {error}.") from None
    return located(from_toml(StudySettings, text), path.parent)


def _serve(arguments: Serve) -> int:
    from neftune_core.ui.serve import serve

    serve(
        host=arguments.host,
        port=arguments.port,
        password=arguments.password,
        root_path=arguments.root_path,
        share=arguments.share,
        open_browser=arguments.open,
    )
    return 0


def _train(arguments: Train) -> int:
    if arguments.example:
        print(to_toml(EXAMPLE, comments=True), end="")
        return 0
    if arguments.file is None or str(arguments.file) != sys.argv[2]:
        return _refuse("Name a study file first: `neftune train --example > study.toml` makes one.")
    from neftune_core.training.record import create, find_same

    limits = Limits()
    arguments.study.check(limits)
    record = find_same(arguments.study, owner="") if arguments.resume else None
    if arguments.resume and record is None:
        print(
            "No record of this very study is there, so a new one is begun (`neftune runs` lists them).", file=sys.stderr
        )
    return _run(record or create(arguments.study, "", limits), limits)


def _run(record: Record, limits: Limits) -> int:
    """Run a record to its end, from where it was broken off, if it was."""
    from neftune_core.training.study import run_study

    if (record.ending() or {}).get("event") == "finished":
        print(f"record: {record.folder} (finished already)")
        return 0
    print(f"in {record.folder}", file=sys.stderr)
    ending: dict[str, Any] = {}
    with _interruptible() as should_stop:
        for ending in _with_progress(record, run_study(record, limits, should_stop)):  # noqa: B007 - the last counts
            pass
    print(f"record: {record.folder}")
    if ending["event"] == "finished":
        _print_losses(record)
        _print_verdict(record)
        return 0
    return _refuse(ending.get("message") or f"The study was stopped; what it had is in {record.folder}.")


def _sweep(arguments: Sweep) -> int:
    from neftune_core.cli_sweep import begun

    if arguments.example:
        from neftune_core.training.sweep_settings import EXAMPLE_SWEEP

        print(to_toml(EXAMPLE_SWEEP, comments=True), end="")
        return 0
    return _run_sweep(begun(arguments), Limits(), as_json=arguments.json)


def _run_sweep(record: Record, limits: Limits, *, as_json: bool = False) -> int:
    """Run a sweep to its end, from where it was broken off, if it was, and print its table."""
    from neftune_core.cli_sweep import print_table
    from neftune_core.training.sweep import run_sweep
    from neftune_core.training.sweep_record import Sweep as SweepRecord

    sweep = SweepRecord(record.folder)
    ending: dict[str, Any] = sweep.ending() or {}
    if ending.get("event") != "finished":
        print(f"in {sweep.folder}", file=sys.stderr)
        with _interruptible() as should_stop:
            for ending in _with_progress(sweep, run_sweep(sweep, limits, should_stop)):  # noqa: B007 - the last counts
                pass
    print_table(sweep, as_json=as_json)
    print(f"record: {sweep.folder}", file=sys.stderr if as_json else sys.stdout)
    return 0 if ending["event"] == "finished" else _refuse(str(ending.get("message") or "The sweep was stopped."))


class _interruptible:  # noqa: N801 - used as a word after `with`
    """Turns the first Ctrl+C, or the system's wish that the process ends (SIGTERM), into a question that the work asks.

    A second one ends at once.
    """

    def __enter__(self) -> Callable[[], bool]:
        import signal

        self.asked = False
        self.before = {asked: signal.signal(asked, self._ask) for asked in (signal.SIGINT, signal.SIGTERM)}
        return lambda: self.asked

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: object) -> None:
        import signal

        for asked, before in self.before.items():
            signal.signal(asked, before)


def _with_progress(record: Record, events: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The same events, with a bar on standard error over the steps of all seeds."""
    from tqdm import tqdm

    from neftune_core.training.progress import WORDS, before_run

    progress = before_run(record)
    bar = tqdm(unit="step", file=sys.stderr, desc="preparing", initial=progress.step)
    for event in events:
        progress.follow(event)
        seed = f", seed {progress.seed_number} of {progress.seeds}" if progress.seeds > 1 else ""
        bar.total, bar.n = progress.steps or None, progress.step
        bar.set_description(f"{WORDS[progress.state].lower()}{seed}")
        yield event
    bar.close()


def _print_losses(record: Record) -> None:
    """The last losses with noise off, as a small table; means over the seeds."""
    last: dict[tuple[str, Any], dict[str, Any]] = {}
    for event in record.events():
        if event["event"] == "evaluated":
            last |= {(name, event.get("seed")): numbers for name, numbers in event["arms"].items()}
    seeds = len({seed for _, seed in last})
    of_seeds = f", mean of {seeds} seeds" if seeds > 1 else ""
    print(f"{'arm':24} {'training loss':>14} {'held-out loss':>14}   (noise off, nats a response token{of_seeds})")
    for arm in dict.fromkeys(name for name, _ in last):
        cells = [_mean(last, arm, loss) for loss in ("train_loss", "held_out_loss")]
        print(f"{arm:24} " + " ".join(f"{'-' if value is None else format(value, '.4f'):>14}" for value in cells))


def _mean(last: dict[tuple[str, Any], dict[str, Any]], arm: str, loss: str) -> float | None:
    values = [numbers[loss] for (name, _), numbers in last.items() if name == arm and numbers.get(loss) is not None]
    return sum(values) / len(values) if values else None


def _named(name: str) -> Record:
    """The record of that id, or in that folder."""
    from neftune_core.training.record import SWEEP_FILE, Record, find

    folder = Path(name)
    is_one = any((folder / file).is_file() for file in ("study.toml", SWEEP_FILE))
    return Record(folder.resolve()) if is_one else find(name, owner=None)


def _report(arguments: Report) -> int:
    from neftune_core.export.report import write_report

    print(f"report: {write_report(_named(arguments.record), arguments.out)}")
    return 0


def _script(arguments: Script) -> int:
    from neftune_core.export.script import script_folder

    folder = script_folder(_named(arguments.record), arguments.folder)
    print(f"script: {folder / 'standalone.py'}")
    return 0


def _print_verdict(record: Record) -> None:
    from neftune_core.training.judging import verdict_of

    print(f"\n{verdict_of(record).text()}")


def _verdict(arguments: Verdict) -> int:
    from dataclasses import asdict

    from neftune_core.evaluation.outcomes import Question
    from neftune_core.training.judging import means_of, question_of, verdict_of

    record = _named(arguments.record)
    named = question_of(record)
    asked = Question(arguments.measure or named.measure, arguments.epoch or named.epoch)
    found = verdict_of(record, asked)
    if not arguments.json:
        print(found.text(named=named))
        return 0
    from neftune_core.training.log import finite

    told = {"question": asdict(asked), "named_before": named == asked, "text": found.text(named=named).splitlines()}
    arms = {
        name: {part: value for part, value in asdict(arm).items() if part != "lines"}
        for name, arm in found.arms.items()
    }
    floors = {name: asdict(floor) for name, floor in found.floors.items()}
    measures = means_of(record, asked)
    print(json.dumps(finite({**told, "arms": arms, "floors": floors, "measures": measures}), indent=2))
    return 0


def _runs(arguments: Runs) -> int:
    from neftune_core.models.catalogue import gigabytes
    from neftune_core.training import disk
    from neftune_core.training.record import all_records, find

    if arguments.action == "list":
        for record in all_records():
            print(_run_line(record))
        return 0
    if arguments.action == "resume" and arguments.record:
        found = find(arguments.record, owner=None)
        return (_run_sweep if found.is_sweep else _run)(found, Limits())
    if arguments.action == "remove" and arguments.record:
        disk.remove(find(arguments.record, owner=None))
        return 0
    if arguments.action in ("import", "export") and arguments.record:
        print(_import(arguments) if arguments.action == "import" else _export(arguments))
        return 0
    if arguments.action == "clean" and arguments.days is not None:
        removed = disk.remove_old(arguments.days)
        freed = gigabytes(sum(removed.values())) if removed else "nothing"
        print(f"removed {len(removed)} records, {freed}")
        return 0
    return _refuse(
        "Say `neftune runs list`, `resume ID`, `remove ID`, `export ID`, `import FILE.zip`, or `clean --days 30`."
    )


def _import(arguments: Runs) -> str:
    from neftune_core.export.archive import import_record

    return f"record: {import_record(Path(arguments.record), owner='').folder}"


def _export(arguments: Runs) -> Path:
    from neftune_core.export.archive import pack_record
    from neftune_core.export.models import write_model
    from neftune_core.training.record import find

    record = find(arguments.record, owner=None)
    if arguments.form == "record":
        return pack_record(record, arguments.to or Path(f"{record.id}.zip"))
    target = arguments.to or Path(arguments.arm)
    if target.exists():
        raise InvalidSetting(f"There is something at {target} already: name another place with `--to`.")
    seed = record.study.seed if arguments.seed is None else arguments.seed
    write_model(record, arguments.arm, seed, arguments.form, target)
    return target


def _run_line(record: Record) -> str:
    from neftune_core.home import folder_bytes
    from neftune_core.models.catalogue import gigabytes
    from neftune_core.training.progress import WORDS, of_record

    status = of_record(record)
    steps = f"{status.step:,}/{status.steps:,}" if status.steps else "-"
    size = gigabytes(folder_bytes(record.folder))
    return f"{record.id}  {WORDS[status.state]:12} {steps:>13} steps  {size:>8}  {', '.join(record.arms)}"


def _models(arguments: Models) -> int:
    from neftune_core.models.catalogue import CATALOGUE, gigabytes

    if arguments.action == "clean":
        from neftune_core.home import remove_models

        print(f"removed {gigabytes(remove_models())}")
        return 0
    if arguments.action == "list":
        for name, card in CATALOGUE.items():
            print(f"{name:36} {card.parameters / 1e6:7.0f} M  {card.download_megabytes:5.0f} MB  {card.licence}")
        return 0
    if arguments.action != "get" or not arguments.name:
        return _refuse("Say `neftune models list`, `neftune models get NAME`, or `neftune models clean`.")
    from neftune_core.models.loading import load
    from neftune_core.models.settings import ModelSettings

    with _interruptible() as should_stop:
        loaded = load(ModelSettings(source=arguments.name), progress=_print_progress, cancelled=should_stop)
    print(f"\n{loaded.name}: {loaded.parameters / 1e6:.1f} M parameters, width {loaded.width}, {loaded.licence}")
    return 0


def _print_progress(progress: Any) -> None:
    share = f" {100 * progress.done_bytes / progress.total_bytes:.0f} %" if progress.total_bytes else ""
    print(f"\r{progress.what}{share}   ", end="", file=sys.stderr, flush=True)


def _world(arguments: World) -> int:
    if arguments.action != "build":
        return _refuse("Say `neftune world build`.")
    from tqdm import tqdm

    from neftune_core.world.build import Built
    from neftune_core.world.make import make

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


def _doctor(arguments: Doctor) -> int:
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


def _space(arguments: Space) -> int:
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
    return _refuse("Say `neftune space build FOLDER`, or `neftune space push FOLDER NAME`.")


def _bench(arguments: Bench) -> int:
    from neftune_core.bench import BENCHMARKS

    if arguments.what not in BENCHMARKS:
        return _refuse(f"There is no benchmark {arguments.what!r}: choose one of {', '.join(BENCHMARKS)}.")
    table = BENCHMARKS[arguments.what](arguments)
    print(json.dumps(table.as_json(), indent=2) if arguments.json else table.as_markdown())
    return 0
