"""Where the lab is served, and what that changes: one table, recognised from the environment, which may overrule it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neftune_core.errors import InvalidSetting
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import BUNDLED
from neftune_core.settings import Limits, from_query
from neftune_core.training.settings import PRESETS

LIMIT = "neftune_limit_"

SMALL: Mapping[str, Any] = {
    "local_paths": False,
    "upload_megabytes": 10,
    "rows": 2_000,
    "row_characters": 20_000,
    "steps": 1_000,
    "arms": 6,
    "study_minutes": 10,
    "waiting_jobs": 2,
    "queue_places": 60,
    "disk_gigabytes": 5.0,
    "visitor_gigabytes": 0.2,
    "record_days": 7.0,
    "prompts": 32,
    "prompt_characters": 4_000,
    "new_tokens": 256,
    "calls_a_minute": 6_000,
    "studies_an_hour": 200,
}
"""What two cores and 16 GB can give to everybody who comes; the last two leave room for a class behind one address."""


@dataclass(frozen=True)
class Profile:
    """One kind of place.

    `limits` are those that differ from the usual ones; `presets` those that the Train tab offers; `model` is the one
    that the page opens with; `models` is what a visitor may name (None: anything), each with the revision that it is
    pinned to; `gpu_in_request` says that a GPU is lent for the time of one call.
    """

    words: str
    public: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    presets: tuple[str, ...] = tuple(PRESETS)
    model: str = BUNDLED
    models: Mapping[str, str] | None = None
    gpu_in_request: bool = False


def pinned() -> dict[str, str]:
    """The models of the catalogue whose content cannot change: shipped, checked against a sum, or of one commit."""
    return {name: card.revision for name, card in CATALOGUE.items() if card.is_pinned}


def _up_to(megaparameters: float) -> dict[str, str]:
    small = (name for name, card in CATALOGUE.items() if card.parameters <= megaparameters * 1e6)
    return {name: pinned()[name] for name in small if name in pinned()}


PROFILES: dict[str, Profile] = {
    "local": Profile("A machine of your own: everything is open."),
    "cpu-space": Profile(
        "A Space with two cores and 16 GB, open to everybody.",
        public=True,
        limits=SMALL,
        presets=("quick look", "small data, many epochs"),
        models=_up_to(140),
    ),
    "zerogpu": Profile(
        "A Space that is lent a GPU for the time of one call.",
        public=True,
        limits={**SMALL, "steps": 2_000, "study_minutes": 2, "arms": 8},
        presets=("quick look", "small data, many epochs"),
        models=_up_to(600),
        gpu_in_request=True,
    ),
}


@dataclass(frozen=True)
class Hosted:
    """A profile as this host has it, with what the environment changes."""

    name: str
    profile: Profile
    limits: Limits
    models: Mapping[str, str] | None


def recognised(environment: Mapping[str, str]) -> str:
    """The name of the profile: `NEFTUNE_PROFILE`, or what the variables of a Space tell, or `local`."""
    said = environment.get("NEFTUNE_PROFILE", "").strip().lower()
    if said:
        if said not in PROFILES:
            raise InvalidSetting(f"NEFTUNE_PROFILE is one of {', '.join(PROFILES)} (given {said[:40]!r}).")
        return said
    if environment.get("SPACES_ZERO_GPU", "").strip().lower() in ("1", "t", "true"):
        return "zerogpu"
    return "cpu-space" if "SPACE_ID" in environment else "local"


def hosted(environment: Mapping[str, str] | None = None) -> Hosted:
    """The profile of this process.

    `NEFTUNE_PUBLIC` closes or opens what strangers should not have; every limit can be said, as in
    `NEFTUNE_LIMIT_RECORD_DAYS=7`; `NEFTUNE_MODELS` adds models, as in `owner/name@revision,owner/other@revision`, and
    `any` allows all.
    """
    given = os.environ if environment is None else environment
    name = recognised(given)
    profile = PROFILES[name]
    said = given.get("NEFTUNE_PUBLIC", "1" if profile.public else "0")
    public = said.strip().lower() not in ("", "0", "no", "false")
    lowered = {variable.lower(): value for variable, value in given.items() if variable.startswith(LIMIT.upper())}
    named = {variable.removeprefix(LIMIT): value for variable, value in lowered.items()}
    usual = {limit: str(value) for limit, value in profile.limits.items()}
    limits = from_query(Limits, {**usual, "local_paths": str(not public), **named})
    allowed = profile.models if profile.models is not None else pinned()
    return Hosted(name, profile, limits, _with_named(allowed, given.get("NEFTUNE_MODELS", "")) if public else None)


def _with_named(allowed: Mapping[str, str], named: str) -> Mapping[str, str] | None:
    if named.strip().lower() == "any":
        return None
    added = (entry.strip().partition("@") for entry in named.split(",") if entry.strip())
    return {**allowed, **{source.strip(): revision.strip() for source, _, revision in added}}
