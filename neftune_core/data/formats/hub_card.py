"""Check that the card of a hub data set only refers to files in its own repository.

The `datasets` library resolves the file patterns of a card. It would search this machine's disk for an
absolute pattern, and fetch the address in a pattern with a protocol. The card is therefore checked first, at a fixed
commit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

CARDS = ("README.md", ".huggingface.yaml")
NAMING = ("data_files", "data_dir")
"""Fields of a configuration that name files."""


class OutsideRepository(ValueError):
    """Raised if a card refers to a file outside its repository."""


def require_own_files(name: str, commit: str) -> None:
    """Require that the cards of a data set only refer to files in its repository.

    Args:
        name: OWNER/NAME of the data set.
        commit: Commit that the data will be read from.

    Raises:
        OutsideRepository: If a pattern is not relative, or leaves the repository.
    """
    for file in CARDS:
        for pattern in _named_files(_metadata(name, commit, file)):
            if not is_own(pattern):
                raise OutsideRepository(pattern[:200])


def is_own(pattern: str) -> bool:
    """Return whether a pattern can only match files inside the repository."""
    is_absolute = PurePosixPath(pattern).is_absolute() or bool(PureWindowsPath(pattern).anchor)
    parts = pattern.replace("\\", "/").split("/")
    return not (is_absolute or ".." in parts or "::" in pattern or ":" in parts[0] or pattern.startswith("~"))


def _metadata(name: str, commit: str, file: str) -> Any:
    """Return the metadata of a card; empty if the file does not exist."""
    import yaml
    from huggingface_hub import DatasetCard, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        path = hf_hub_download(name, file, repo_type="dataset", revision=commit)
    except EntryNotFoundError:
        return {}
    if file.endswith(".md"):
        return DatasetCard.load(path).data.to_dict()
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def _named_files(value: Any, *, named: bool = False) -> Iterator[str]:
    """Yield every text in a field of `NAMING`, at any depth; `named` is whether `value` is in such a field."""
    if isinstance(value, str) and named:
        yield value
    elif isinstance(value, dict):
        for field, one in value.items():
            yield from _named_files(one, named=named or field in NAMING)
    elif isinstance(value, list):
        for one in value:
            yield from _named_files(one, named=named)
