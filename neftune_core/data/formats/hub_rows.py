"""First rows of Hugging Face data sets, streamed in a separate process without running code of the data sets."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from neftune_core.data.examples import UnusableRow
from neftune_core.data.formats.files import longest_row
from neftune_core.data.formats.sandboxed_reader import Bounds, ReaderError, run_reader
from neftune_core.data.formats.tables import Row
from neftune_core.data.settings import DataSettings
from neftune_core.errors import DataError, DoesNotFit, LabError, NotAvailable
from neftune_core.language import later, say
from neftune_core.settings import Limits

logger = logging.getLogger(__name__)

MEMORY_BYTES = 4_000_000_000
SECONDS = 300
UNKNOWN_LICENCE = "unknown: see the page of the data set"
# Names of configurations and splits; excludes paths and the library's slice syntax.
_WORD = re.compile(r"[\w.+\-]{0,200}")


class HubSet(NamedTuple):
    """Licence and default configuration of a hub data set that the lab offers by name."""

    licence: str
    configuration: str = ""


HUB_SETS: dict[str, HubSet] = {
    "databricks/databricks-dolly-15k": HubSet("CC BY-SA 3.0"),
    "openai/gsm8k": HubSet("MIT", configuration="main"),
}


def first_rows(name: str, settings: DataSettings, rows: int, limits: Limits) -> list[Row]:
    """Fetch the first rows of a hub data set.

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
    try:
        return list(islice(stream(name, configuration, settings.split, rows, limits), rows))
    except ReaderError as failed:
        raise _translate_failure(failed, name, limits) from None


def _require_hub_name(name: str) -> None:
    """Require a valid hub name with an owner; a bare name may select the library's reader of local files."""
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


def stream(name: str, configuration: str, split: str, rows: int, limits: Limits) -> Iterator[Row]:
    """Stream the first rows of a hub data set from `HF_ENDPOINT`.

    A local lab uses the user's token. A public server uses none, because visitors choose the data sets.

    Args:
        name: OWNER/NAME.
        configuration: Name of the configuration; "" for the default.
        split: Name of the split.
        rows: Maximum number of rows.
        limits: Limits of this server.

    Yields:
        Numbered rows.
    """
    bounds = Bounds(MEMORY_BYTES, SECONDS, longest_row(limits), limits.upload_megabytes * 1_000_000)
    asked = {"name": name, "configuration": configuration, "split": split, "rows": rows}
    for kind, number, record in run_reader("hub", asked, bounds, variables=_access(limits)):
        yield number, UnusableRow(record) if kind == "refused" else record


def _access(limits: Limits) -> dict[str, str]:
    """Return the reader's environment variables: the token, and settings that disable Xet and torch.

    The audit hook cannot observe Xet transfers. A CUDA build of torch maps more memory than the reader may use.
    """
    from huggingface_hub import get_token

    own = get_token() if limits.local_paths else None
    token = {"HF_TOKEN": own} if own else {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    return {"HF_HUB_DISABLE_XET": "1", "USE_TORCH": "0", **token}


def _translate_failure(failed: ReaderError, name: str, limits: Limits) -> LabError:
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
    for kinds, parts, kind, explained in _EXPLANATIONS:
        if (not kinds or failed.kind in kinds) and any(part in words for part in parts):
            return kind(say(explained, name=name) + _choices(str(failed), explained))
    logger.warning("the data set %s could not be read: %s: %s", name, failed.kind, failed)
    return DataError(
        say(
            "The data set {name} could not be read: its files or their metadata are damaged. The log has the "
            "details; use another data set or a file.",
            name=name,
        )
    )


def _choices(words: str, explained: str) -> str:
    """Return a sentence with the valid names that the library lists in its message; "" if it lists none."""
    found = re.search(r"\[('[^\[\]]*')\]", words) if explained in (_NO_CONFIGURATION, _NO_SPLIT) else None
    names = re.findall(r"'([\w.+\-]{1,80})'", found[1])[:20] if found else []
    return " " + say("Available: {names}.", names=", ".join(names)) if names else ""


_NO_CONFIGURATION = later("The data set {name} has several configurations: choose one of them.")
_NO_SPLIT = later("The data set {name} does not have this split: choose one of its splits.")
_NO_HUB = later("The data set {name} cannot be fetched because the hub cannot be reached: use a starter set or a file.")
_NOT_FOUND = ("RepositoryNotFoundError", "DatasetNotFoundError")
_ANY = ("",)
_UNREACHABLE = (
    "name or service not known", "name resolution", "nodename nor servname", "network is unreachable", "no route",
    "connection", "max retries", "couldn't reach", "cannot reach", "offline",
)  # fmt: skip
# (exception names, or empty for any; parts of the message; error class; sentence). The first match is used.
_EXPLANATIONS: tuple[tuple[tuple[str, ...], tuple[str, ...], type[LabError], str], ...] = (
    (
        ("OutsideRepository", "PermissionError"),
        _ANY,
        DataError,
        later(
            "The data set {name} refers to files outside its own repository, which the lab does not read: choose "
            "another one."
        ),
    ),
    (
        (),
        ("gated", "awaiting a review", "accept the conditions"),
        NotAvailable,
        later(
            "The data set {name} is gated: accept its terms on its hub page, and set HF_TOKEN to a token of the "
            "account that accepted them."
        ),
    ),
    (
        _NOT_FOUND,
        _ANY,
        DataError,
        later(
            "The hub has no public data set called {name}: check the name, or, if it is private, set HF_TOKEN to "
            "a token with access to it."
        ),
    ),
    (
        (),
        ("401 client error", "403 client error", "403 forbidden", "invalid user token"),
        NotAvailable,
        later(
            "This account has no access to the data set {name} on the hub: set HF_TOKEN to a token with access to it."
        ),
    ),
    (
        (),
        ("429 client error", "too many requests"),
        NotAvailable,
        later("The hub is rate-limiting requests and did not send the data set {name}: try again in a few minutes."),
    ),
    (
        (),
        ("500 server error", "502 server error", "503 server error", "504 server error"),
        NotAvailable,
        later("The hub had an internal error and did not send the data set {name}: try again later."),
    ),
    (("ValueError",), ("config name is missing", "builderconfig"), DataError, _NO_CONFIGURATION),
    (("ValueError",), ("split",), DataError, _NO_SPLIT),
    (
        ("RuntimeError",),
        ("script",),
        DataError,
        later("The data set {name} can only be read by its own code, which the lab never runs: choose another one."),
    ),
    (
        ("DataFilesNotFoundError", "EmptyDatasetError", "FileNotFoundError"),
        _ANY,
        DataError,
        later("The data set {name} contains no readable data files: choose another one."),
    ),
    (
        ("timeout", "TimeoutError", "ReadTimeout", "ConnectTimeout", "ReadTimeoutError", "PoolTimeout"),
        _ANY,
        NotAvailable,
        later("The hub did not send the first rows of {name} in time: try again later, or ask for fewer rows."),
    ),
    (
        ("MemoryError", "died"),
        _ANY,
        DataError,
        later("The first rows of {name} take more memory than one data set may use: ask for fewer rows."),
    ),
    (
        ("ConnectionError", "ConnectError", "ProxyError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"),
        _ANY,
        NotAvailable,
        _NO_HUB,
    ),
    ((), _UNREACHABLE, NotAvailable, _NO_HUB),
)
