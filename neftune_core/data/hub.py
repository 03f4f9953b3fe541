"""Data sets of the Hugging Face hub: their first rows, streamed. No code of a data set is ever run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, NotAvailable

TIMEOUT_SECONDS = 10
UNKNOWN_LICENCE = "unknown: see the page of the data set"


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


def first_rows(name: str, settings: DataSettings, rows: int) -> list[dict[str, Any]]:
    """At most the first `rows` records of the hub data set `name` (owner/name).

    Raises `NotAvailable` where the hub or the set cannot be reached, `DataError` where it cannot be used.
    """
    if not re.fullmatch(r"\w[\w.\-]*(/\w[\w.\-]*)?", name):
        raise DataError(f"{name[:80]!r} is not the name of a data set: it reads OWNER/NAME.")
    if Path(name).exists():  # the library would read the folder instead of the hub
        raise DataError(
            f"{name!r} is also a folder of this machine, so the hub's data set cannot be read by this name."
        )
    offered = HUB_SETS.get(name)
    configuration = settings.configuration or (offered.configuration if offered else "")
    try:
        return list(islice(stream(name, configuration, settings.split), rows))
    except Exception as error:  # the library answers the network and the data with many kinds of exception
        raise _translated(error, name) from None


def stream(name: str, configuration: str, split: str) -> Iterator[dict[str, Any]]:
    """The records of a hub data set, in order, fetched as they are asked for; `HF_ENDPOINT` is respected."""
    import datasets
    from huggingface_hub import HfApi

    HfApi().dataset_info(name, timeout=TIMEOUT_SECONDS)  # says at once what the library retries for half a minute
    datasets.disable_progress_bars()
    yield from datasets.load_dataset(name, configuration or None, split=split, streaming=True)


def _translated(error: Exception, name: str) -> DataError | NotAvailable:
    text = str(error)
    if isinstance(error, ValueError) and re.search("config", text, re.IGNORECASE):
        return DataError(f"The data set {name} has several configurations: name one of them.")
    if isinstance(error, ValueError) and "split" in text.lower():
        return DataError(f"The data set {name} has no such split: try train, test or validation.")
    if "script" in text.lower() and isinstance(error, RuntimeError):
        return DataError(f"The data set {name} needs its own code to be read, which the lab never runs.")
    if "gated" in text.lower():
        return NotAvailable(f"The data set {name} wants its terms accepted by a signed-in user of the hub.")
    if type(error).__name__ in ("RepositoryNotFoundError", "DatasetNotFoundError"):
        return DataError(f"The hub has no public data set called {name}: check the name.")
    return NotAvailable(
        f"The data set {name} cannot be fetched since the hub cannot be reached from here: use a starter set or a file."
    )
