"""Server profiles, selected and adjusted by environment variables."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neftune_core.errors import InvalidSetting
from neftune_core.home import assets
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import BUNDLED
from neftune_core.settings import Limits, parse
from neftune_core.studies.settings import PRESETS
from neftune_core.studies.tracking import require_tracker

LIMIT = "NEFTUNE_LIMIT_"

SMALL: Mapping[str, Any] = tomllib.loads((assets() / "space" / "limits.toml").read_text(encoding="utf-8"))
"""Limits of a public server."""


@dataclass(frozen=True)
class Profile:
    """One kind of server.

    Attributes:
        public: Whether anyone on the network can open the page.
        limits: Limits that differ from the defaults.
        presets: Presets that the Train tab offers.
        model: The model that the page opens with.
        models: Models that a visitor may use, with their pinned revisions. None for any, or for `pinned_models()` if
            `NEFTUNE_PUBLIC` makes the server public.
        gpu_in_request: Whether a GPU is allocated per call (ZeroGPU).
    """

    public: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    presets: tuple[str, ...] = tuple(PRESETS)
    model: str = BUNDLED
    models: Mapping[str, str] | None = None
    gpu_in_request: bool = False


def pinned_models() -> dict[str, str]:
    """Return the models of the catalogue with immutable content: bundled, or verified by checksum or commit."""
    return {name: card.revision for name, card in CATALOGUE.items() if card.is_pinned}


def _up_to(megaparameters: float) -> dict[str, str]:
    small = (name for name, card in CATALOGUE.items() if card.parameters <= megaparameters * 1e6)
    return {name: pinned_models()[name] for name in small if name in pinned_models()}


PROFILES: dict[str, Profile] = {
    "local": Profile(),
    "cpu-space": Profile(
        public=True,
        limits=SMALL,
        presets=("quick look", "small data, many epochs"),
        models=_up_to(140),
    ),
    "zerogpu": Profile(
        public=True,
        limits={**SMALL, "steps": 4_000, "study_minutes": 2, "arms": 8},
        presets=("quick look", "small data, many epochs"),
        models=_up_to(600),
        gpu_in_request=True,
    ),
}
"""Profiles of the user's own machine, of a Space with two cores and 16 GB, and of a Space with a GPU per call."""


@dataclass(frozen=True)
class HostProfile:
    """The profile of this host, with the overrides from the environment.

    Attributes:
        models: Models that a visitor may use, with their pinned revisions; None for any.
        mcp: Whether to offer the endpoints as tools for agents; None for the server's default.
        judge: Whether visitors can use a judge of their own; None to allow it only if the server is not public.
        track: Tracker that every study is also logged to; "" for none.
    """

    name: str
    profile: Profile
    limits: Limits
    models: Mapping[str, str] | None
    mcp: bool | None = None
    track: str = ""
    judge: bool | None = None


VARIABLES = (
    "NEFTUNE_HOME", "NEFTUNE_DEVICE", "NEFTUNE_PROFILE", "NEFTUNE_PUBLIC", "NEFTUNE_MODELS", "NEFTUNE_HOSTS",
    "NEFTUNE_MCP", "NEFTUNE_TRACK", "NEFTUNE_JUDGE", "NEFTUNE_JUDGE_KEY",
)  # fmt: skip
"""The lab's environment variables, except `NEFTUNE_LIMIT_...` and the variables of its tests."""

_YES, _NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
_MODEL = re.compile(r"[\w.\-]+(/[\w.\-]+)?(@[\w.\-/]+)?", re.ASCII)
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_HOST = re.compile(r"[a-z0-9](?:[a-z0-9.\-]*[a-z0-9])?(?::\d{1,5})?|\[[0-9a-f:]+\](?::\d{1,5})?")


def known_variables() -> list[str]:
    """Return every known variable that begins with `NEFTUNE_`, except those of the tests."""
    return [*VARIABLES, *(LIMIT + name.upper() for name in Limits.model_fields)]


def _read_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the lab's non-empty variables, stripped; raise `InvalidSetting` for an unknown `NEFTUNE_` variable."""
    known, found = known_variables(), {}
    for variable, value in environment.items():
        if not variable.upper().startswith("NEFTUNE_") or variable.startswith("NEFTUNE_TEST_"):
            continue
        if variable not in known:
            near = difflib.get_close_matches(variable.upper(), known, n=1, cutoff=0.0)[0]
            raise InvalidSetting(f"There is no environment variable {variable[:60]}: did you mean {near}?")
        if value.strip():
            found[variable] = value.strip()
    return found


def detect_profile(environment: Mapping[str, str]) -> str:
    """Return the profile in `NEFTUNE_PROFILE`; by default, that of the Space that runs this process, or `local`.

    Raises:
        InvalidSetting: If there is no such profile.
    """
    chosen = environment.get("NEFTUNE_PROFILE", "").strip().lower()
    if chosen:
        if chosen not in PROFILES:
            raise InvalidSetting(f"NEFTUNE_PROFILE must be one of {', '.join(PROFILES)} (given {chosen[:40]!r}).")
        return chosen
    if environment.get("SPACES_ZERO_GPU", "").strip().lower() in ("1", "t", "true"):
        return "zerogpu"
    return "cpu-space" if "SPACE_ID" in environment else "local"


def host_profile(environment: Mapping[str, str] | None = None) -> HostProfile:
    """Return the profile of this process, with the overrides from the environment.

    `NEFTUNE_PUBLIC` declares the server public or private. A public server has stricter limits, and lacks the features
    that visitors must not use. Every limit can be set, as in `NEFTUNE_LIMIT_RECORD_DAYS=7`. `NEFTUNE_MODELS` adds
    models, as in `owner/name@revision,owner/other@revision`; `any` allows all.

    Raises:
        InvalidSetting: If a variable is unknown, or its value is malformed or out of range.
        NotAvailable: If the tracker is not installed.
    """
    given = os.environ if environment is None else environment
    own = _read_environment(given)
    name = detect_profile(given)
    profile = PROFILES[name]
    public, mcp, judge = (_switch(own, name) for name in ("NEFTUNE_PUBLIC", "NEFTUNE_MCP", "NEFTUNE_JUDGE"))
    public = profile.public if public is None else public
    usual = profile.limits or (SMALL if public else {})
    limits = parse(Limits, {**usual, "local_paths": not public, **_limits(own)})
    allowed = profile.models if profile.models is not None else pinned_models()
    models = _allow_named(allowed, own.get("NEFTUNE_MODELS", ""))
    named_hosts(own)  # checks them
    if not _DEVICE.fullmatch(own.get("NEFTUNE_DEVICE", "auto")):
        raise InvalidSetting(
            f"NEFTUNE_DEVICE must be auto, cpu, cuda, cuda:1 or mps (given {own['NEFTUNE_DEVICE'][:40]!r})."
        )
    track = own.get("NEFTUNE_TRACK", "")
    if track:
        require_tracker(track)
    return HostProfile(name, profile, limits, models if public else None, mcp, track, judge)


def named_hosts(environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the host names in `NEFTUNE_HOSTS`, without ports; a proxy serves the page under these names.

    Raises:
        InvalidSetting: If a name is malformed.
    """
    given = os.environ if environment is None else environment
    hosts = [host.strip().lower() for host in given.get("NEFTUNE_HOSTS", "").split(",") if host.strip()]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise InvalidSetting(
                "NEFTUNE_HOSTS must be a list of host names, such as lab.example.org,other.example.org "
                f"(given {host[:60]!r})."
            )
    return tuple(re.sub(r":\d+$", "", host) for host in hosts)


def _limits(own: Mapping[str, str]) -> dict[str, Any]:
    """Return the limits set in the environment; raise `InvalidSetting`, naming the variable, if one is invalid."""
    found: dict[str, Any] = {}
    for variable, text in own.items():
        if not variable.startswith(LIMIT):
            continue
        name = variable.removeprefix(LIMIT).lower()
        of_bool = Limits.model_fields[name].annotation is bool
        found[name] = _yes_or_no(variable, text) if of_bool else _number(variable, name, text)
    return found


def _number(variable: str, name: str, text: str) -> Any:
    try:
        return getattr(parse(Limits, {name: text}), name)
    except InvalidSetting as error:
        reason = str(error).rpartition(": ")[2]
        raise InvalidSetting(f"{variable} cannot be {text[:40]!r}: {reason}") from None


def _switch(own: Mapping[str, str], variable: str) -> bool | None:
    return _yes_or_no(variable, own[variable]) if variable in own else None


def _yes_or_no(variable: str, text: str) -> bool:
    if text.lower() not in (*_YES, *_NO):
        raise InvalidSetting(f"{variable} must be 1 or 0 (given {text[:40]!r}).")
    return text.lower() in _YES


def _allow_named(allowed: Mapping[str, str], named: str) -> Mapping[str, str] | None:
    if named.lower() == "any":
        return None
    entries = [entry.strip() for entry in named.split(",") if entry.strip()]
    for entry in entries:
        if not _MODEL.fullmatch(entry):
            raise InvalidSetting(
                f"NEFTUNE_MODELS must be `any` or a list like owner/name@revision,owner/other (given {entry[:60]!r})."
            )
    added = (entry.partition("@") for entry in entries)
    return {**allowed, **{source: revision for source, _, revision in added}}
