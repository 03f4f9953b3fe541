"""How often somebody may call."""

from __future__ import annotations

from typing import Any

import pytest

from neftune_core.settings import Limits
from neftune_core.ui import rates
from neftune_core.ui.rates import Rates, TooMany


def scope(address: str, forwarded: str = "") -> dict[str, Any]:
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return {"client": (address, 1), "headers": headers}


def test_calls_over_the_limit_are_refused_until_the_minute_is_over() -> None:
    found = Rates(Limits(calls_a_minute=3))
    for moment in range(3):
        found.count(scope("10.0.0.1"), begins=False, now=moment)
    with pytest.raises(TooMany, match="wait 57 seconds"):
        found.count(scope("10.0.0.1"), begins=False, now=3)
    found.count(scope("10.0.0.2"), begins=False, now=3)
    found.count(scope("10.0.0.1"), begins=False, now=60)


def test_studies_are_counted_by_the_hour_and_apart() -> None:
    found = Rates(Limits(studies_an_hour=1))
    found.count(scope("10.0.0.1"), begins=True, now=0)
    for moment in range(50):
        found.count(scope("10.0.0.1"), begins=False, now=moment)
    with pytest.raises(TooMany, match="within an hour"):
        found.count(scope("10.0.0.1"), begins=True, now=60)
    found.count(scope("10.0.0.1"), begins=True, now=3600)


def test_no_limit_counts_nothing() -> None:
    found = Rates(Limits())
    for _ in range(10_000):
        found.count(scope("10.0.0.1"), begins=True, now=0)
    assert not found.calls._times


def test_one_household_has_one_count(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Rates(Limits(calls_a_minute=1))
    found.count(scope("2001:db8:1:2:3::1"), begins=False, now=0)
    with pytest.raises(TooMany):
        found.count(scope("2001:db8:1:2:ffff::9"), begins=False, now=1)


def test_a_header_that_names_an_address_is_believed_on_a_space_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    found = Rates(Limits(calls_a_minute=1))
    found.count(scope("10.0.0.1", "1.1.1.1"), begins=False, now=0)
    with pytest.raises(TooMany):
        found.count(scope("10.0.0.1", "2.2.2.2"), begins=False, now=1)
    monkeypatch.setenv("SPACE_ID", "owner/space")
    found.count(scope("10.0.0.1", "1.1.1.1, 10.0.0.9"), begins=False, now=2)
    found.count(scope("10.0.0.1", "2.2.2.2"), begins=False, now=3)
    with pytest.raises(TooMany):
        found.count(scope("10.0.0.7", "1.1.1.1"), begins=False, now=4)


def test_addresses_are_forgotten_and_never_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "KEPT_ADDRESSES", 5)
    found = Rates(Limits(calls_a_minute=1))
    for number in range(20):
        found.count(scope(f"10.0.0.{number}"), begins=False, now=0)
    assert len(found.calls._times) == 5
