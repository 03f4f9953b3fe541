"""Rate limits of calls."""

from __future__ import annotations

import pytest

from neftune_core.settings import Limits
from neftune_core.ui.server import rate_limits
from neftune_core.ui.server.addresses import address_of
from neftune_core.ui.server.rate_limits import Rates, TooManyCalls


def test_calls_over_the_limit_are_refused_until_the_minute_is_over() -> None:
    found = Rates(Limits(calls_a_minute=3))
    for moment in range(3):
        found.count_call("10.0.0.1", moment)
    with pytest.raises(TooManyCalls, match="wait 57 seconds"):
        found.count_call("10.0.0.1", 3)
    found.count_call("10.0.0.2", 3)
    found.count_call("10.0.0.1", 60)


def test_a_large_call_counts_as_several() -> None:
    found = Rates(Limits(calls_a_minute=10))
    found.count_call("10.0.0.1", 0, size=5 * rate_limits.CALL_BYTES)
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.count_call("10.0.0.1", 0, size=5 * rate_limits.CALL_BYTES)
    found.count_call("10.0.0.1", 0, size=3 * rate_limits.CALL_BYTES)
    with pytest.raises(TooManyCalls):
        found.count_call("10.0.0.1", 0)
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.count_call("10.0.0.2", 0, size=10 * rate_limits.CALL_BYTES)  # never


def test_studies_are_counted_by_the_hour_and_apart() -> None:
    found = Rates(Limits(studies_an_hour=1))
    found.count_study("10.0.0.1", 0)
    for moment in range(50):
        found.count_call("10.0.0.1", moment)
    with pytest.raises(TooManyCalls, match="maximum number of studies per hour"):
        found.count_study("10.0.0.1", 60)
    found.count_study("10.0.0.1", 3600)
    for _ in range(5):
        found.count_study("", 60)  # the command line and code have no address


def test_no_limit_counts_nothing() -> None:
    found = Rates(Limits())
    for _ in range(10_000):
        found.count_call("10.0.0.1", 0)
        found.count_study("10.0.0.1", 0)
    assert found.calls.addresses == 0
    assert found.studies.addresses == 0


def test_passwords_are_limited_by_address_and_by_all_addresses_together() -> None:
    found = Rates(Limits())
    for _ in range(rate_limits.PASSWORDS_A_MINUTE):
        found.count_password("10.0.0.1", 0)
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.count_password("10.0.0.1", 0)
    for number in range(rate_limits.PASSWORDS_OF_ALL - rate_limits.PASSWORDS_A_MINUTE):
        found.count_password(f"10.1.{number}.1", 0)
    with pytest.raises(TooManyCalls):
        found.count_password("10.9.9.9", 0)
    found.count_password("10.0.0.1", 61)


def test_one_household_has_one_address() -> None:
    assert address_of("2001:db8:1:2:3::1", {}) == address_of("2001:db8:1:2:ffff::9", {})


def test_a_header_that_names_an_address_is_believed_only_on_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert address_of("10.0.0.1", {"x-forwarded-for": "1.1.1.1"}) == "10.0.0.1"
    monkeypatch.setenv("SPACE_ID", "owner/space")
    assert address_of("10.0.0.1", {"x-forwarded-for": "1.1.1.1, 10.0.0.9"}) == "1.1.1.1"
    assert address_of("10.0.0.7", {}) == "10.0.0.7"


def test_addresses_are_forgotten_and_never_grow_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "KEPT_ADDRESSES", 5)
    found = Rates(Limits(calls_a_minute=1))
    for number in range(20):
        found.count_call(f"10.0.0.{number}", 0)
    assert found.calls.addresses == 5
