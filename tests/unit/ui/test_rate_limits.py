"""Rate limits of calls."""

from __future__ import annotations

import pytest

from neftune_core.settings import Limits
from neftune_core.ui.server import rate_limits
from neftune_core.ui.server.addresses import address_of
from neftune_core.ui.server.rate_limits import Rates, TooManyCalls


class TimedRates(Rates):
    """Rate limits with a clock that a test sets."""

    def __init__(self, limits: Limits) -> None:
        self.now = 0.0
        super().__init__(limits, clock=lambda: self.now)

    def at(self, now: float) -> TimedRates:
        self.now = now
        return self


def test_calls_over_the_limit_are_refused_until_the_minute_is_over() -> None:
    found = TimedRates(Limits(calls_a_minute=3))
    for moment in range(3):
        found.at(moment).count_call("10.0.0.1")
    with pytest.raises(TooManyCalls, match="wait 57 seconds"):
        found.at(3).count_call("10.0.0.1")
    found.at(3).count_call("10.0.0.2")
    found.at(60).count_call("10.0.0.1")


def test_a_large_call_counts_as_several() -> None:
    found = TimedRates(Limits(calls_a_minute=10))
    found.at(0).count_call("10.0.0.1", size=5 * rate_limits.CALL_BYTES)
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.at(0).count_call("10.0.0.1", size=5 * rate_limits.CALL_BYTES)
    found.at(0).count_call("10.0.0.1", size=3 * rate_limits.CALL_BYTES)
    with pytest.raises(TooManyCalls):
        found.at(0).count_call("10.0.0.1")
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.at(0).count_call("10.0.0.2", size=10 * rate_limits.CALL_BYTES)  # never


def test_studies_are_counted_by_the_hour_and_apart() -> None:
    found = TimedRates(Limits(studies_an_hour=1))
    found.at(0).count_study("10.0.0.1")
    for moment in range(50):
        found.at(moment).count_call("10.0.0.1")
    with pytest.raises(TooManyCalls, match="maximum number of studies per hour"):
        found.at(60).count_study("10.0.0.1")
    found.at(3600).count_study("10.0.0.1")
    for _ in range(5):
        found.at(60).count_study("")  # the command line and code have no address


def test_no_limit_counts_nothing() -> None:
    found = TimedRates(Limits())
    for _ in range(10_000):
        found.at(0).count_call("10.0.0.1")
        found.at(0).count_study("10.0.0.1")
    assert found.calls.addresses == 0
    assert found.studies.addresses == 0


def test_passwords_are_limited_by_address_and_by_all_addresses_together() -> None:
    found = TimedRates(Limits())
    for _ in range(rate_limits.PASSWORDS_A_MINUTE):
        found.at(0).count_password("10.0.0.1")
    with pytest.raises(TooManyCalls, match="wait 60 seconds"):
        found.at(0).count_password("10.0.0.1")
    for number in range(rate_limits.PASSWORDS_OF_ALL - rate_limits.PASSWORDS_A_MINUTE):
        found.at(0).count_password(f"10.1.{number}.1")
    with pytest.raises(TooManyCalls):
        found.at(0).count_password("10.9.9.9")
    found.at(61).count_password("10.0.0.1")


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
    found = TimedRates(Limits(calls_a_minute=1))
    for number in range(20):
        found.at(0).count_call(f"10.0.0.{number}")
    assert found.calls.addresses == 5
