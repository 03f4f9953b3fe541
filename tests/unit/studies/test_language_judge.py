"""A judge of one's own: blind, in both orders, controlled for length, and never inside a network that is not public."""

from __future__ import annotations

import csv
import functools
import io
import json
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from judge_server import judging

from neftune_core.commands.compare import JudgeCommand
from neftune_core.commands.compare import judge as judge_command
from neftune_core.errors import DataError, InvalidSetting, NotAvailable, RecordError
from neftune_core.export.archive import import_record, pack_record
from neftune_core.python_api import StudyResult
from neftune_core.space.profiles import host_profile
from neftune_core.studies.language_judge import endpoint
from neftune_core.studies.language_judge.endpoint import KEY_VARIABLE, Judge, public_address, read_verdict
from neftune_core.studies.language_judge.verdicts import (
    FILE,
    JudgeProgress,
    judge_arms,
    judged_so_far,
    judged_text,
    stored_verdicts,
    verdicts_text,
)
from neftune_core.studies.language_judge.win_rate import RIDGE, Judged, controlled_win_rates, win_rate
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE
from neftune_core.ui import page
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.views.compare_inside import judge_exporter
from neftune_core.ui.tabs.views.compare_inside import judged as page_judged

ARMS = ("uniform-alpha-5", "control")
KEY = "judge-key-0123456789abcdef"
CONTEXTS = functools.cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def _one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the certificates once: it takes longer than a request, and every request has a client of its own."""
    monkeypatch.setattr(ssl, "create_default_context", CONTEXTS)


def answered(folder: Path, texts: list[tuple[str, str]]) -> Record:
    """Return a record with the answers of two arms."""
    record = create(EXAMPLE, "", folder=folder)
    lines = [
        {"prompt": f"Question {number}?", "reference": "", "arms": {name: {"text": text, "tokens": 3, "ended": "stop"}
         for name, text in zip(ARMS, pair, strict=True)}}
        for number, pair in enumerate(texts)
    ]  # fmt: skip
    record.write_answers(lines, 0)
    return record


def judged(record: Record, url: str, **options: Any) -> JudgeProgress:
    *_, found = judge_arms(record, ARMS, Judge(url, "judge", **options))
    return found


def longer(prompt: str, first: str, second: str) -> str:
    return "A" if len(first) > len(second) else "B"


def test_a_preference_for_a_position_cancels(tmp_path: Path) -> None:
    record = answered(tmp_path, [(f"one {number}", f"another {number}") for number in range(8)])
    with judging(lambda prompt, first, second: "A") as server:
        found = judged(record, server.url)
    assert found.rate is not None
    assert (found.rate.raw.estimate, found.rate.agreement) == (0.5, 0.0)
    assert (found.rate.raw.low, found.rate.raw.high) == (0.5, 0.5)
    assert "no clear preference" in judged_text(found)


def test_a_preference_for_length_is_removed_by_the_control(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    apart = np.round(rng.normal(12, 20, 60)).astype(int)
    apart[apart == 0] = 1
    record = answered(tmp_path, [("x" * (80 + value), "y" * 80) for value in map(int, apart)])
    with judging(longer) as server:
        found = judged(record, server.url)
    rate = found.rate
    assert rate is not None
    assert rate.controlled is not None
    assert rate.raw.estimate == pytest.approx((apart > 0).mean())
    assert rate.raw.low > 0.55  # taken alone, a clear preference
    assert rate.controlled.low < 0.5 < rate.controlled.high
    assert abs(rate.controlled.estimate - 0.5) < 0.15
    assert rate.longer == rate.raw.estimate


def test_a_preference_for_content_survives_the_control(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    texts = [("good " + "x" * int(rng.integers(20, 60)), "bad " + "y" * int(rng.integers(20, 60))) for _ in range(40)]
    record = answered(tmp_path, [pair if number % 5 else pair[::-1] for number, pair in enumerate(texts)])
    with judging(lambda prompt, first, second: "A" if first.startswith("good") else "B") as server:
        found = judged(record, server.url)
    assert found.rate is not None
    assert found.rate.controlled is not None
    assert found.rate.raw.estimate == pytest.approx(0.8)
    assert found.rate.agreement == 1
    assert found.rate.controlled.estimate == pytest.approx(0.8, abs=0.06)
    assert found.rate.controlled.low > 0.5
    assert "preferred alpha 5" in judged_text(found)


def test_the_regression_is_the_maximum_of_its_penalised_likelihood() -> None:
    rng = np.random.default_rng(5)
    scores, apart = rng.choice([0.0, 0.5, 1.0], 30), rng.normal(5, 30, 30)
    scores[:3], apart[:3] = 1.0, 400.0  # without the tanh, these would decide alone
    (found,) = controlled_win_rates(scores, apart, np.ones((1, 30)))
    preference = np.log(found / (1 - found))
    feature = np.tanh(apart / apart.std())

    def loss(theta: float, slope: float) -> float:
        chance = 1 / (1 + np.exp(-theta - slope * feature))
        fit = -(scores * np.log(chance) + (1 - scores) * np.log(1 - chance)).sum()
        return float(fit + RIDGE[0] * theta**2 / 2 + RIDGE[1] * slope**2 / 2)

    grid = [(theta, slope) for theta in np.linspace(-2, 2, 401) for slope in np.linspace(-3, 3, 301)]
    best = min(grid, key=lambda point: loss(*point))
    assert preference == pytest.approx(best[0], abs=0.02)


def test_ties_and_too_few_prompts() -> None:
    assert win_rate([Judged(1.0, (3, 4), True)]) is None
    same = win_rate([Judged(0.5, (7, 7), True)] * 4)
    assert same is not None
    assert same.controlled is None
    assert same.raw.estimate == 0.5


def test_the_judge_sees_no_name_and_both_orders_and_identical_answers_are_not_sent(tmp_path: Path) -> None:
    record = answered(tmp_path, [("red", "blue"), ("same", "same")])
    with judging(lambda prompt, first, second: "TIE") as server:
        found = judged(record, server.url + "/")
    sent = [body["messages"][-1]["content"] for _, _, body in server.asked]
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"] * 2
    assert sent[0].index("red") < sent[0].index("blue")
    assert sent[1].index("blue") < sent[1].index("red")
    assert not any(arm in text for arm in (*ARMS, record.id) for text in map(json.dumps, server.asked))
    assert (found.identical, found.done, found.prompts) == (1, 2, 2)
    lines = [json.loads(line) for line in (record.folder / FILE).read_text().splitlines()]
    assert [(line["prompt"], line["order"], line["verdict"]) for line in lines] == [
        ("Question 0?", 0, "tie"), ("Question 0?", 1, "tie")
    ]  # fmt: skip
    assert lines[0]["answers"] == {ARMS[0]: "red", ARMS[1]: "blue"}


def test_a_judge_that_fails_loses_nothing_and_is_asked_only_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(Judge.ask, "__kwdefaults__", {"sleep": lambda seconds: None})
    record = answered(tmp_path, [(f"x{number}", f"yy{number}") for number in range(4)])
    counted: list[int] = []

    def limited(prompt: str, first: str, second: str) -> Any:
        counted.append(1)
        return longer(prompt, first, second) if len(counted) <= 3 else 429

    with judging(limited) as server:
        with pytest.raises(NotAvailable, match=r"rate-limiting requests\. The verdicts so far are stored"):
            judged(record, server.url)
        assert len(stored_verdicts(record)) == 3
        url = server.url
        server.rule = longer
        asked = len(server.asked)
        found = judged(record, url)
        assert judged(record, url).rate == found.rate
        assert len(server.asked) - asked == 5
    assert found.rate is not None
    assert found.rate.raw.estimate == 0


def test_a_rate_limit_is_waited_for_as_long_as_the_endpoint_says(tmp_path: Path) -> None:
    waits: list[float] = []
    told = iter([(429, {"Retry-After": "7"}, b""), (503, {}, b""), "B"])
    with judging(lambda *_: next(told)) as server:
        verdict = Judge(server.url, "judge").ask("p", "a", "b", sleep=waits.append)
    assert verdict == ("B", "B")
    assert waits == [7.0, 2.0]


@pytest.mark.parametrize(
    "reply", [(200, {}, b"<html>"), (200, {}, b'{"choices": []}'), (200, {}, b"[[1]]"), "I cannot help with that.", ""]
)
def test_a_reply_without_a_verdict_is_counted_and_asked_for_again(tmp_path: Path, reply: Any) -> None:
    record = answered(tmp_path, [("one", "two"), ("three", "four")])
    with judging(lambda *_: reply) as server:
        found = judged(record, server.url)
        assert (found.unreadable, found.rate) == (4, None)
        assert "Replies without a verdict: 4" in judged_text(found)
        server.rule = longer
        again = judged(record, server.url)
    assert (again.unreadable, len(server.asked)) == (0, 8)
    assert again.rate is not None


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("A", "A"), ("b.", "B"), ("[[tie]]", "TIE"), ("Verdict: B", "B"), ("<think>A or B?</think>A", "A"),
        ("A is short, B is right.\n\nB", "B"), ("A or B", ""), ("A nice day", "A"), ("Neither", ""), ("<think>A", ""),
    ],
)  # fmt: skip
def test_a_verdict_is_read_only_where_it_is_unambiguous(reply: str, verdict: str) -> None:
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "does not accept the key"), (404, "address or the model of the judge was not found"), (400, "status 400")],
)
def test_a_refusal_is_one_sentence(status: int, words: str) -> None:
    with judging(lambda *_: status) as server, pytest.raises(NotAvailable, match=words):
        Judge(server.url, "judge").ask("p", "a", "b")
    assert len(server.asked) == 1


def test_a_judge_that_is_silent_or_absent_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(NotAvailable, match="did not answer"):
            Judge(url, "judge").ask("p", "a", "b")
    with pytest.raises(NotAvailable, match="cannot be reached"):
        Judge(url, "judge").ask("p", "a", "b")


def test_the_key_is_sent_and_nowhere_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    record = answered(tmp_path, [("one", "three"), ("two", "fifty")])
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    with judging(longer) as server:
        command = JudgeCommand(str(record.folder), base_url=server.url, model="judge", arms=ARMS)
        assert judge_command(command) == 0
        judge = Judge(server.url, "judge", KEY)
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {f"Bearer {KEY}"}
    printed = capsys.readouterr()
    assert "alpha 5 won 0% of 2 prompts against control" in printed.out
    files = "".join(path.read_text(errors="replace") for path in record.folder.rglob("*") if path.is_file())
    assert KEY not in files + repr(judge) + printed.out + printed.err + caplog.text


def test_the_python_interface_returns_the_numbers(tmp_path: Path) -> None:
    record = answered(tmp_path, [("longest", "short"), ("longer", "one")])
    with judging(longer) as server:
        found = StudyResult(record).judge(*ARMS, base_url=server.url, model="judge")
    assert found.rate is not None
    assert found.rate.raw.estimate == 1


@pytest.mark.parametrize(
    "url",
    ["", "127.0.0.1", "ftp://host/v1", "http://", "http://user:secret@host/v1", "http://host:x/v1", "http://host/?a=b"],
)
def test_an_address_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSetting, match="not a valid judge address") as error:
        Judge(url, "judge")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "[::1]",
        "[::ffff:127.0.0.1]", "[fd00::1]", "[fe80::1]", "100.64.0.1", "2130706433", "0x7f.1", "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]", "224.0.0.1",
    ],
)  # fmt: skip
def test_a_public_host_asks_no_judge_in_a_private_network(tmp_path: Path, host: str) -> None:
    record = answered(tmp_path, [("one", "two"), ("three", "four")])
    with judging(longer) as server:
        judge = Judge(f"http://{host}:{server.server_port}/v1", "judge", public_only=True)
        with pytest.raises(InvalidSetting, match="to private networks"):
            list(judge_arms(record, ARMS, judge))
    assert server.asked == []


def addresses(*found: str) -> Callable[..., Any]:
    return lambda name, port, **_: [(0, 0, 0, "", (address, port)) for address in found]


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", addresses("93.184.216.34", "10.0.0.1"))
    with pytest.raises(InvalidSetting, match="to private networks"):
        public_address("judge.example.org", 443)
    monkeypatch.setattr(socket, "getaddrinfo", addresses("93.184.216.34"))
    assert public_address("judge.example.org", 443) == "93.184.216.34"


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that resolves to a different address the second time gains nothing."""
    monkeypatch.setattr(endpoint, "public_address", lambda name, port: "127.0.0.1")
    with judging(lambda *_: "A") as server:
        url = f"http://judge.invalid:{server.server_port}/v1"
        assert Judge(url, "judge", public_only=True).ask("p", "a", "b")[0] == "A"
    assert server.asked[0][1]["Host"] == f"judge.invalid:{server.server_port}"


def test_a_redirect_is_not_followed() -> None:
    with judging(lambda *_: "A") as other, judging(lambda *_: (302, {"Location": other.url}, b"")) as server:
        with pytest.raises(NotAvailable, match="redirects"):
            Judge(server.url, "judge").ask("p", "a", "b")
        assert other.asked == []


def test_arms_without_answers_are_named(tmp_path: Path) -> None:
    record = answered(tmp_path, [("one", "two")])
    with pytest.raises(
        DataError, match=f"answers of both other and control. Arms with stored answers: {ARMS[0]}, control"
    ):
        list(judge_arms(record, ("other", "control"), Judge("http://host/v1", "judge")))
    with pytest.raises(InvalidSetting, match="two different arms"):
        list(judge_arms(record, ("control", "control"), Judge("http://host/v1", "judge")))


VERDICTS = {"0": "A", "1": "TIE", "2": "B", "3": ""}
"""By question: always the first shown, always a tie, always the second shown, nothing readable."""


def by_question(prompt: str, first: str, second: str) -> str:
    return VERDICTS.get(prompt[-2], longer(prompt, first, second))


def of_every_kind(folder: Path) -> Record:
    """Return a record whose judge contradicts itself, ties, cannot be read and prefers the longer answer."""
    pairs = [("one", "other"), ("two", "=2+2"), ("three", "more"), ("four", "none"), ("same", "same")]
    return answered(folder, [*pairs, *[("x" * (20 + number), "y" * 12) for number in range(4)]])


def test_a_table_of_verdicts_has_both_orders_ties_and_both_rates_with_their_intervals(tmp_path: Path) -> None:
    record = of_every_kind(tmp_path)
    with judging(by_question) as server:
        url, found = server.url, judged(record, server.url)
        asked = len(server.asked)
        judge = Judge(url, "judge", KEY)
        whole = json.loads(verdicts_text(judged_so_far(record, ARMS, judge), judge, "json"))
        rows = list(csv.DictReader(io.StringIO(verdicts_text(found, judge, "csv"))))
        assert len(server.asked) == asked
    rate = found.rate
    assert rate is not None
    assert rate.controlled is not None
    assert whole["judge"]["model"] == "judge"
    assert whole["judge"]["base_url"] == url
    counts = ("prompts", "judged", "ties", "orders_disagree", "identical", "unreadable")
    assert [whole[name] for name in counts] == [9, 8, 2, 2, 1, 2]
    told = whole["win_rate_of_first"]
    assert told["raw"] == {"estimate": 6 / 8, "low": rate.raw.low, "high": rate.raw.high, "level": 0.95}
    assert told["controlled_for_length"] == asdict(rate.controlled)
    first = whole["rows"][0]
    assert [first[f"verdict_{arm}_shown_first"] for arm in ("first", "second")] == [*ARMS]
    assert (first["score_of_first"], first["orders_agree"], first["first_answer"]) == (0.5, False, "one")
    assert [row["score_of_first"] for row in rows] == ["0.5", "0.5", "0.5", "", "0.5", "1.0", "1.0", "1.0", "1.0"]
    assert rows[1]["second_answer"] == "'=2+2"  # a spreadsheet would compute it
    assert {row["judge"] for row in rows} == {"judge"}
    assert KEY not in json.dumps([whole, rows])


def test_the_command_line_writes_the_table_and_refuses_other_endings_before_asking(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = of_every_kind(tmp_path)
    with judging(by_question) as server:

        def ask(name: str) -> Path:
            file = tmp_path / name
            options: dict[str, Any] = {"base_url": server.url, "model": "judge", "arms": ARMS}
            assert judge_command(JudgeCommand(str(record.folder), out=file, **options)) == 0
            return file

        with pytest.raises(InvalidSetting, match=r"verdicts.xlsx must end in .json or .csv"):
            ask("verdicts.xlsx")
        assert server.asked == []
        assert json.loads(ask("verdicts.json").read_text())["judged"] == 8
        assert ask("verdicts.csv").read_text().count("\n") == 10
    capsys.readouterr()


def test_the_verdicts_travel_with_the_record(tmp_path: Path) -> None:
    record = of_every_kind(tmp_path / "here")
    record.append({"event": "started", "steps": 1})
    with judging(by_question) as server:
        rate = judged(record, server.url).rate
        asked = len(server.asked)
        there = import_record(pack_record(record, tmp_path / "record.zip"), "", folder=tmp_path / "there")
        assert judged(there, server.url).rate == rate
        assert len(server.asked) == asked + 2  # only what could not be read is asked for again


def page_saves(lab: Lab, kind: str, *given: Any) -> Any:
    return json.loads(judge_exporter(lab, kind)("key", *given)["text"])


def test_the_page_saves_what_it_shows_and_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    record, lab = of_every_kind(tmp_path / "runs"), Lab()
    with judging(by_question) as server:
        with pytest.raises(DataError, match="has not judged these two arms yet"):
            page_saves(lab, "json", record.id, 0, *ARMS, server.url, "judge")
        shown = asked_on_page(lab, record, server.url)
        assert shown.rate is not None
        saved = page_saves(lab, "json", record.id, 0, *ARMS, server.url, "judge")
        assert saved["win_rate_of_first"]["raw"]["estimate"] == shown.rate.raw.estimate
        with pytest.raises(RecordError, match="Train a study first"):
            page_saves(lab, "json", None, None, *ARMS, server.url, "judge")


def asked_on_page(lab: Lab, record: Record, url: str) -> JudgeProgress:
    *_, found = page_judged(lab, "key", record.id, 0, (*ARMS, url, "judge", ""))
    return found


def test_the_page_uses_the_hosts_key_only_where_no_strangers_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    record = answered(tmp_path / "runs", [("one", "three"), ("two", "fifty")])
    with judging(longer) as server:
        assert asked_on_page(Lab(), record, server.url).done == 2
        assert server.asked[0][1]["Authorization"] == f"Bearer {KEY}"
        public = Lab(host=host_profile({"NEFTUNE_PUBLIC": "1", "NEFTUNE_JUDGE": "1"}))
        with pytest.raises(RecordError, match="started from the command line"):
            asked_on_page(public, record, server.url)
        monkeypatch.setattr(endpoint, "public_address", lambda name, port: "127.0.0.1")
        mine = create(EXAMPLE, "key")
        mine.write_answers(record.answers(), 0)
        mine.write_answers([{**line, "prompt": "another"} for line in record.answers()], 0)
        assert asked_on_page(public, mine, server.url).done == 2
        assert "Authorization" not in server.asked[-1][1]


@pytest.mark.parametrize(
    ("environment", "offered"),
    [
        ({}, True), ({"NEFTUNE_JUDGE": "0"}, False), ({"NEFTUNE_PUBLIC": "1"}, False),
        ({"NEFTUNE_PROFILE": "cpu-space"}, False), ({"NEFTUNE_PROFILE": "zerogpu", "NEFTUNE_JUDGE": "1"}, True),
    ],
)  # fmt: skip
def test_a_public_host_offers_a_judge_only_if_it_says_so(environment: dict[str, str], offered: bool) -> None:
    assert Lab(host=host_profile(environment)).offers_judge is offered
    assert Lab(shared=True).offers_judge is False


@pytest.mark.parametrize(("judge", "offered"), [("1", True), ("0", False)])
def test_the_view_is_in_the_page_where_it_is_offered_and_its_key_is_in_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: str, offered: bool
) -> None:
    monkeypatch.setenv("NEFTUNE_HOME", str(tmp_path))
    built = page.build(Lab(host=host_profile({"NEFTUNE_JUDGE": judge})))
    found = {getattr(block, "elem_id", None): block for block in built.blocks.values()}
    assert ("judge-key" in found) is offered
    if offered:
        assert found["judge-key"].type == "password"
    (view,) = [block for name, block in found.items() if name == "compare-view"]
    assert ("judge" in [value for _, value in view.choices]) is offered
    assert "compare.judge" not in json.dumps(built.config, default=str)
