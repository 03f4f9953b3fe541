"""Data sets of the Hugging Face hub: their first rows, streamed. No code of a data set is ever run.

They are read in a process apart: whoever names a data set may have made it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from neftune_core.data.apart import Bounds, ReaderFailed, said_by
from neftune_core.data.examples import RowRefused
from neftune_core.data.files import longest_row
from neftune_core.data.settings import DataSettings
from neftune_core.data.tables import Row
from neftune_core.errors import DataError, DoesNotFit, LabError, NotAvailable
from neftune_core.language import later, say
from neftune_core.settings import Limits

MEMORY_BYTES = 4_000_000_000
SECONDS = 300
UNKNOWN_LICENCE = "unknown: see the page of the data set"
# A configuration or a split as the hub names them: no path, and no piece of the library's own language of slices.
_WORD = re.compile(r"[\w.+\-]{0,200}")


@dataclass(frozen=True)
class HubSet:
    """A data set offered by name; `configuration` is the one to use where it has several."""

    words: str
    licence: str
    configuration: str = ""
    split: str = "train"


HUB_SETS: dict[str, HubSet] = {
    "databricks/databricks-dolly-15k": HubSet("15,000 instructions written by people", "CC BY-SA 3.0"),
    "openai/gsm8k": HubSet("School mathematics in words, with the steps", "MIT", configuration="main"),
}


def first_rows(name: str, settings: DataSettings, rows: int, limits: Limits) -> list[Row]:
    """At most the first `rows` rows of the hub data set `name` (owner/name), with their numbers.

    Raises `NotAvailable` where the hub or the set cannot be reached, `DataError` where it cannot be used, `DoesNotFit`
    where the rows are larger than a file may be.
    """
    _require_hub_name(name)
    offered = HUB_SETS.get(name)
    configuration = settings.configuration or (offered.configuration if offered else "")
    for what, word in ((later("configuration"), configuration), (later("split"), settings.split)):
        if not _WORD.fullmatch(word):
            raise DataError(
                say(
                    "{name!r} is not the name of a {kind}: it has letters, digits and -_.+ only.",
                    name=word[:80],
                    kind=say(what),
                )
            )
    try:
        return list(islice(stream(name, configuration, settings.split, rows, limits), rows))
    except ReaderFailed as failed:
        raise _translated(failed, name, limits) from None


def _require_hub_name(name: str) -> None:
    """By the hub's own rule, and with an owner: a bare name may be one of the library's readers of local files."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if name.count("/") != 1:
        raise DataError(say("{name!r} is not the name of a data set: it reads OWNER/NAME.", name=name[:80]))
    if Path(name).exists():  # the library would read the folder instead of the hub
        raise DataError(
            say(
                "{name!r} is also a folder of this machine, so the hub's data set cannot be read by this name.",
                name=name,
            )
        )


def stream(name: str, configuration: str, split: str, rows: int, limits: Limits) -> Iterator[Row]:
    """The first rows of a hub data set, fetched as they are asked for; `HF_ENDPOINT` is respected.

    On a lab of one's own the hub gets the person's own token. On one that is open to everybody it gets none: the host's
    is not for the data sets that visitors name.
    """
    bounds = Bounds(MEMORY_BYTES, SECONDS, longest_row(limits), limits.upload_megabytes * 1_000_000)
    asked = {"name": name, "configuration": configuration, "split": split, "rows": rows}
    for kind, number, record in said_by("hub", asked, bounds, variables=_access(limits)):
        yield number, RowRefused(record) if kind == "refused" else record


def _access(limits: Limits) -> dict[str, str]:
    """The variables of the reading process: without the hub's own transfer program, which no guard can watch."""
    from huggingface_hub import get_token

    own = get_token() if limits.local_paths else None
    token = {"HF_TOKEN": own} if own else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return {"HF_HUB_DISABLE_XET": "1", **token}


def _translated(failed: ReaderFailed, name: str, limits: Limits) -> LabError:
    words = str(failed).lower()
    if failed.kind == "size":
        return DoesNotFit(
            say(
                "The first {count} rows of {name} are larger than {most:,} MB, the most that this "
                "server reads: ask for fewer rows.",
                count=words,
                name=name,
                most=limits.upload_megabytes,
            )
        )
    for kinds, part, kind, explained in _EXPLANATIONS:
        if failed.kind in kinds and part in words:
            return kind(say(explained, name=name))
    return NotAvailable(
        say(
            "The data set {name} cannot be fetched since the hub cannot be reached from here: use a "
            "starter set or a file.",
            name=name,
        )
    )


_NOT_FOUND = ("RepositoryNotFoundError", "DatasetNotFoundError")
_EXPLANATIONS: tuple[tuple[tuple[str, ...], str, type[LabError], str], ...] = (
    (("ValueError",), "config", DataError, later("The data set {name} has several configurations: name one of them.")),
    (
        ("ValueError",),
        "split",
        DataError,
        later("The data set {name} has no such split: try train, test or validation."),
    ),
    (
        ("OutsideRepository", "PermissionError"),
        "",
        DataError,
        later("The data set {name} names files outside its own repository, which the lab does not read."),
    ),
    (
        ("RuntimeError",),
        "script",
        DataError,
        later("The data set {name} needs its own code to be read, which the lab never runs."),
    ),
    (
        ("GatedRepoError", "OSError", *_NOT_FOUND),
        "gated",
        NotAvailable,
        later("The data set {name} wants its terms accepted by a signed-in user of the hub."),
    ),
    (_NOT_FOUND, "", DataError, later("The hub has no public data set called {name}: check the name.")),
    (
        ("MemoryError", "died"),
        "",
        DataError,
        later("The first rows of {name} take more memory or time than the lab gives to one data set."),
    ),
)
