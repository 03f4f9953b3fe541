"""Upload of models and Spaces to the hub account that a token belongs to. Repositories are private by default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from neftune_core.errors import DoesNotFit, InvalidSetting, NotAvailable

NAME = re.compile(r"[A-Za-z0-9](?:[\w.\-]{0,94}[A-Za-z0-9])?", re.ASCII)


def push_space(folder: Path, name: str, *, token: str | None = None, private: bool = True) -> str:
    """Upload a built folder to a Space; files that are no longer in the folder are removed.

    Args:
        folder: The built folder.
        name: The Space as `owner/name`, or `name` in the token's own account.
        token: Access token; the stored login if None.
        private: Whether a new Space is private.

    Returns:
        The URL of the Space.

    Raises:
        LabError: If the hub refuses the upload.
        InvalidSetting: If the folder is not a built Space.
    """
    if not (folder / "app.py").is_file() or not (folder / "requirements.txt").is_file():
        raise InvalidSetting(f"The folder {folder} contains no Space: create one with `neftune space build {folder}`.")
    return _push(folder, name, token, private=private, is_space=True)


def push_model(folder: Path, name: str, *, token: str | None = None, private: bool = True) -> str:
    """Upload an adapter or a merged model to a model repository.

    Args:
        folder: The folder of the model.
        name: The repository as `owner/name`, or `name` in the token's own account.
        token: Access token; the stored login if None.
        private: Whether a new repository is private.

    Returns:
        The URL of the repository.

    Raises:
        LabError: If the hub refuses the upload.
    """
    return _push(folder, name, token, private=private, is_space=False)


def _push(folder: Path, name: str, token: str | None, *, private: bool, is_space: bool) -> str:
    from huggingface_hub import HfApi, get_token

    used = token or get_token()
    if not used:
        raise NotAvailable("There is no hub token: set HF_TOKEN to a token with write access, or run `hf auth login`.")
    owner, _, last = name.rpartition("/")
    if not all(NAME.fullmatch(part) for part in ([owner, last] if owner else [last])):
        raise InvalidSetting(f"{name[:80]!r} is not the name of a repository: write it as name or owner/name.")
    api, kind = HfApi(token=used), "space" if is_space else "model"
    try:
        repository = f"{owner or api.whoami()['name']}/{last}"
        sdk = "gradio" if is_space else None
        api.create_repo(repository, repo_type=kind, space_sdk=sdk, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository,
            repo_type=kind,
            folder_path=folder,
            commit_message="NEFTune Lab" if is_space else "From a study of NEFTune Lab",
            delete_patterns="*" if is_space else None,
        )
    except Exception as error:
        raise _explain(error, name) from None
    return f"{api.endpoint}/{'spaces/' * is_space}{repository}"


def _explain(error: Exception, name: str) -> Exception:
    """Return an error that explains an exception of the hub's library in one sentence, without the token."""
    status: Any = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return NotAvailable("The hub does not accept this token: create a new one in the settings of your account.")
    if status in (402, 413) or "storage" in str(error).lower():
        return DoesNotFit(
            f"The account has no storage left for {name}: free some space there, or choose another account."
        )
    if status == 403:
        return NotAvailable(f"This token cannot write to {name}: it needs write access to that account.")
    if status == 409:
        return NotAvailable(f"The name {name} is already in use: choose another name.")
    if status == 429:
        return NotAvailable("The hub is rate-limiting requests: try again in a few minutes.")
    if isinstance(error, OSError) or status is not None or "Connect" in type(error).__name__:
        words = f"status {status}" if status else "no answer"
        return NotAvailable(f"The hub did not accept {name} ({words}): check the network, and try again.")
    return error
