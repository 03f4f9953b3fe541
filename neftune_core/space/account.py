"""Upload models and Spaces to the hub account of a token. Repositories are private by default."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neftune_core.errors import DoesNotFit, InvalidSetting, NotAvailable
from neftune_core.space.folder import files_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi

NAME = re.compile(r"[A-Za-z0-9](?:[\w.\-]{0,94}[A-Za-z0-9])?", re.ASCII)


def push_space(folder: Path, name: str, *, token: str | None = None, private: bool = True, hardware: str = "") -> str:
    """Upload a built folder to a Space; files that are no longer in the folder are removed.

    Args:
        folder: The built folder.
        name: The Space as `owner/name`, or `name` in the token's own account.
        token: Access token; the stored login if None.
        private: Whether a new Space is private.
        hardware: Hardware of a new Space; "" for the default.

    Returns:
        The URL of the Space.

    Raises:
        LabError: If the folder is not a built Space, or the hub refuses the upload.
    """
    files_of(folder)

    def put(api: HfApi, repository: str) -> str:
        extra = {"space_hardware": hardware} if hardware else {}
        create: Any = api.create_repo
        create(repository, repo_type="space", space_sdk="gradio", private=private, exist_ok=True, **extra)
        api.upload_folder(
            repo_id=repository, repo_type="space", folder_path=folder, commit_message="NEFTune Lab", delete_patterns="*"
        )
        return f"{api.endpoint}/spaces/{repository}"

    return _with_account(name, token, put)


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

    def put(api: HfApi, repository: str) -> str:
        api.create_repo(repository, repo_type="model", private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository, repo_type="model", folder_path=folder, commit_message="From a study of NEFTune Lab"
        )
        return f"{api.endpoint}/{repository}"

    return _with_account(name, token, put)


def _with_account(name: str, token: str | None, put: Callable[[HfApi, str], str]) -> str:
    from huggingface_hub import HfApi, get_token

    used = token or get_token()
    if not used:
        raise NotAvailable("There is no hub token: set HF_TOKEN to a token with write access, or run `hf auth login`.")
    owner, _, last = name.rpartition("/")
    if not all(NAME.fullmatch(part) for part in ([owner, last] if owner else [last])):
        raise InvalidSetting(f"{name[:80]!r} is not the name of a repository: write it as name or owner/name.")
    api = HfApi(token=used)
    try:
        return put(api, f"{owner or api.whoami()['name']}/{last}")
    except Exception as error:
        raise _explain(error, name) from None


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
