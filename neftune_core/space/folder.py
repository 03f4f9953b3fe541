"""Build the folder of a Space, and push it or a model to a Hugging Face account.

The folder has a README with front matter, requirements, `app.py` and the lab's own files.
"""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from neftune_core.errors import DoesNotFit, InvalidSetting, NotAvailable
from neftune_core.home import assets
from neftune_core.space.profiles import PROFILES
from neftune_core.version import __version__

CHECKOUT = Path(__file__).resolve().parents[2]
TORCH = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PRELOADED = "HuggingFaceTB/SmolLM2-135M-Instruct"
PRELOADED_FILES = (
    *("config.json", "generation_config.json", "model.safetensors"),
    *("special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"),
)
"""Files included in the image: those of the model that visitors choose most often, apart from the bundled one."""
PLATFORMS_OWN = ("gradio", "spaces", "huggingface-hub")
"""Packages that the platform installs: Gradio in the version of the front matter, and others that match it."""

NOT_SHIPPED = ("__pycache__", "*.pyc", ".*", "bench", "pictures")


@dataclass(frozen=True)
class Target:
    """One kind of hardware of a Space.

    Attributes:
        hardware: Name on the hub.
        words: Description.
        torch: Requirement lines that install torch.
        tags: Additional tags of the Space.
    """

    hardware: str
    words: str
    torch: tuple[str, ...]
    tags: tuple[str, ...] = ()


TARGETS: dict[str, Target] = {
    "cpu-space": Target(
        "cpu-basic",
        "two cores and 16 GB, free",
        # Pinned to the CPU build: another version could resolve to the large CUDA build.
        (f"--extra-index-url {CPU_INDEX}", f"torch=={TORCH}+cpu"),
    ),
    "zerogpu": Target("zero-a10g", "a GPU allocated per call", ("torch==2.10.0",), ("zerogpu",)),
}
"""Profiles that a folder can be built for."""


def build(folder: Path, target: str = "cpu-space", *, torch: Sequence[str] | None = None) -> list[str]:
    """Write a complete Space into a folder.

    Args:
        folder: A new or empty folder, or one built by an earlier call.
        target: A name in `TARGETS`.
        torch: Replacement for the lines that install torch, for a private package index.

    Returns:
        The names of the files.

    Raises:
        InvalidSetting: If the target is unknown, or the folder is neither empty nor a Space built earlier.
    """
    if target not in TARGETS:
        raise InvalidSetting(f"The target of a Space must be one of {', '.join(TARGETS)} (given {target[:40]!r}).")
    _require_empty(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ignored = shutil.ignore_patterns(*NOT_SHIPPED)
    shutil.copytree(Path(__file__).parent.parent, folder / "neftune_core", ignore=ignored, dirs_exist_ok=True)
    shutil.copytree(assets(), folder / "neftune_core" / "assets", ignore=ignored, dirs_exist_ok=True)
    written = {
        "README.md": readme(target),
        "requirements.txt": "\n".join(requirements(torch or TARGETS[target].torch)) + "\n",
        "app.py": (assets() / "space" / "app.py").read_text(encoding="utf-8"),
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        # Makes the version available to `importlib.metadata`, although the package is not installed.
        f"neftune_lab-{__version__}.dist-info/METADATA": _metadata(),
    }
    for name, text in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    licence = CHECKOUT / "LICENSE"
    if licence.is_file():
        shutil.copyfile(licence, folder / "LICENSE")
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _require_empty(folder: Path) -> None:
    """Clear a Space that was built earlier; raise `InvalidSetting` if the folder contains anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    readme = folder / "README.md"
    known = readme.is_file() and '\ntitle: "NEFTune Lab"\n' in readme.read_text(encoding="utf-8", errors="replace")
    if not (known and (folder / "app.py").is_file() and (folder / "neftune_core").is_dir()):
        raise InvalidSetting(
            f"The folder {folder} is neither empty nor a Space built by the lab: choose another folder."
        )
    shutil.rmtree(folder / "neftune_core")
    for old in folder.glob("neftune_lab-*.dist-info"):
        shutil.rmtree(old)


def readme(target: str) -> str:
    """Return the README of a Space for a target in `TARGETS`, with the front matter that the platform reads.

    The front matter has an empty list of data sets, so that the platform does not guess them from the code. Its OAuth
    scope permits creating repositories and writing to them, without access to the visitor's other repositories.
    """
    models, about = PROFILES[target].models or {}, TARGETS[target]
    template = (assets() / "space" / "README.md").read_text(encoding="utf-8")
    return template.format(
        target=about,
        gradio=version("gradio"),
        models=", ".join(models),
        hub_models=json.dumps([name for name in models if "/" in name]),
        preloaded=f"{PRELOADED} {','.join(PRELOADED_FILES)} {models[PRELOADED]}",
        tags=json.dumps(["neftune", "fine-tuning", "lora", "education", *about.tags]),
    )


def requirements(torch: Sequence[str]) -> list[str]:
    """Return the requirements of a Space: `torch`, then the lab's requirements that are not preinstalled.

    Raises:
        NotAvailable: If the lab's requirements cannot be determined.
    """
    return [*torch, *(need for need in needs() if _name(need) not in (*PLATFORMS_OWN, "torch"))]


def needs() -> list[str]:
    """Return the lab's runtime requirements, from `pyproject.toml` or else the installed metadata.

    Raises:
        NotAvailable: If neither can be read.
    """
    project = CHECKOUT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"])
    found = requires("neftune-lab")
    if not found:
        raise NotAvailable("The lab's requirements cannot be determined: build the Space from a copy of the project.")
    return [need for need in found if "extra ==" not in need]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.\-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _metadata() -> str:
    lines = ["Metadata-Version: 2.1", "Name: neftune-lab", f"Version: {__version__}"]
    return "\n".join([*lines, *(f"Requires-Dist: {need}" for need in needs())]) + "\n"


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
        LabError: If the folder is not a built Space, or the hub refuses the upload.
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
