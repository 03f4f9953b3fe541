"""First rows of Hugging Face data sets, streamed in a separate process without running code of the data sets."""

from __future__ import annotations

import logging
import re
import tomllib
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from neftune_core import errors
from neftune_core.data.examples import UnusableRow
from neftune_core.data.formats.files import longest_row
from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.data.formats.tables import Row
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, DoesNotFit, LabError
from neftune_core.home import assets
from neftune_core.language import later, say
from neftune_core.settings import Limits

logger = logging.getLogger(__name__)

MEMORY_BYTES = 4_000_000_000
SECONDS = 300
UNKNOWN_LICENCE = "unknown: see the page of the data set"
# Names of configurations and splits; excludes paths and the library's slice syntax.
_WORD = re.compile(r"[\w.+\-]{0,200}")


class HubSet(NamedTuple):
    """A hub data set that the lab offers by name.

    Attributes:
        licence: Licence of the data set.
        configuration: Default configuration; "" if there is only one.
    """

    licence: str
    configuration: str = ""


HUB_SETS: dict[str, HubSet] = {
    "databricks/databricks-dolly-15k": HubSet("CC BY-SA 3.0"),
    "openai/gsm8k": HubSet("MIT", configuration="main"),
}


def first_rows(name: str, settings: DataSettings, rows: int, limits: Limits) -> list[Row]:
    """Fetch the first rows of a hub data set from `HF_ENDPOINT`.

    Args:
        name: OWNER/NAME.
        settings: Data settings, for the configuration and split.
        rows: Maximum number of rows.
        limits: Limits of this server.

    Returns:
        Numbered rows.

    Raises:
        NotAvailable: If the hub or the data set cannot be reached.
        DataError: If the data set cannot be used.
        DoesNotFit: If the rows exceed the size limit of a file.
    """
    _require_hub_name(name)
    offered = HUB_SETS.get(name)
    configuration = settings.configuration or (offered.configuration if offered else "")
    for what, word in ((later("configuration"), configuration), (later("split"), settings.split)):
        if not _WORD.fullmatch(word):
            words = later(
                "{name!r} is not a valid name for a {kind}: use only letters, digits, and the characters - _ . and +."
            )
            raise DataError(say(words, name=word[:80], kind=say(what)))
    bounds = Bounds(MEMORY_BYTES, SECONDS, longest_row(limits), limits.upload_megabytes * 1_000_000)
    request = {"name": name, "configuration": configuration, "split": settings.split, "rows": rows}
    messages = islice(run_reader("hub", request, bounds, variables=_reader_environment(limits)), rows)
    try:
        return [(number, UnusableRow(row) if kind == "refused" else row) for kind, number, row in messages]
    except ReaderError as failed:
        raise _translate_failure(failed, name, limits) from None


def _require_hub_name(name: str) -> None:
    """Check that a name is a valid hub name with an owner.

    A bare name may select the library's reader of local files.

    Raises:
        DataError: If it is not.
    """
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        name = ""
    if name.count("/") != 1 or not name.isascii():  # older versions of the library allow letters of all scripts
        raise DataError(say("{name!r} is not the name of a data set: write OWNER/NAME.", name=name[:80]))
    if Path(name).exists():  # the library would prefer the folder to the hub
        words = later(
            "{name!r} is also a folder on this machine, so the hub's data set cannot be read under this name: start "
            "the lab from another folder."
        )
        raise DataError(say(words, name=name))


def _reader_environment(limits: Limits) -> dict[str, str]:
    """Return the reader's environment variables: the token, and settings that disable Xet and torch.

    A local lab uses the user's token. A public server uses none, because visitors choose the data sets. The audit hook
    cannot observe Xet transfers. A CUDA build of torch maps more memory than the reader may use.
    """
    from huggingface_hub import get_token

    token = get_token() if limits.local_paths else None
    access = {"HF_TOKEN": token} if token else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return {"HF_HUB_DISABLE_XET": "1", "USE_TORCH": "0", **access}


def _translate_failure(failed: ReaderError, name: str, limits: Limits) -> LabError:
    message = str(failed)
    if failed.kind == "size":
        words = later(
            "The first {count} rows of {name} are larger than {most:,} MB, the most that this server reads: request "
            "fewer rows."
        )
        return DoesNotFit(say(words, count=message, name=name, most=limits.upload_megabytes))
    for entry in EXPLANATIONS:
        of_class = "classes" not in entry or failed.kind in entry["classes"]
        if of_class and any(part in message.lower() for part in entry.get("messages", [""])):
            names = _listed_names(message) if entry.get("lists_names") else ""
            return getattr(errors, entry["error"])(say(entry["sentence"], name=name) + names)
    logger.warning("the data set %s could not be read: %s: %s", name, failed.kind, message)
    words = later(
        "The data set {name} could not be read: its files or their metadata are damaged. The log has the details; use "
        "another data set or a file."
    )
    return DataError(say(words, name=name))


def _listed_names(message: str) -> str:
    """Return a sentence with the valid names that the library lists in its message; "" if it lists none."""
    found = re.search(r"\[('[^\[\]]*')\]", message)
    names = re.findall(r"'([\w.+\-]{1,80})'", found[1])[:20] if found else []
    return " " + say("Available: {names}.", names=", ".join(names)) if names else ""


EXPLANATIONS = tomllib.loads((assets() / "hub_errors.toml").read_text(encoding="utf-8"))["data_set"]
"""Errors for users, by class and message of the exception; the first match is used."""
