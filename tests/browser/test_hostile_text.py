"""In a real browser, everything that visitors write or upload is shown as text and never executed."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from page_steps import open_tab, own_file, text_of, upload
from served_lab import blank_page, visiting

from neftune_core.engine.saving import ADAPTER
from neftune_core.studies.records.record import create
from neftune_core.studies.settings import EXAMPLE

pytestmark = pytest.mark.browser

KEY = "7c" * 32
MARK = "window.hacked=1"
PAYLOADS = (
    f"<img src=x onerror={MARK}>",
    f"</pre></p></div><script>{MARK}</script>",
    f"<svg/onload={MARK}>",
    f"[link](javascript:{MARK})",
    f"![picture](x onerror={MARK})",
    f"$\\href{{javascript:{MARK}}}{{x}}$ $$\\unicode{{60}}$$",
    f"${{{MARK}}}",
    f"{{{{#if 1}}}}{{{{{MARK}}}}}{{{{/if}}}} {{{{value}}}} {{% raw %}}",
    f"<a href='javascript:{MARK}'>here</a>",
    f"<iframe srcdoc='<script>parent.{MARK}</script>'></iframe>",
    f"<style>*{{background:url(x)}}</style><b onmouseover={MARK}>bold</b>",
)
ALL = " ".join(PAYLOADS)
MADE = "img[src=x], svg[onload], iframe, [onerror], [onmouseover], a[href^='javascript:']"


@pytest.fixture
def visitor(browser: Any, lab_address: str) -> Iterator[Any]:
    """Return a visitor's page that fails if a payload runs or creates an element."""
    with visiting(browser, lab_address, key=KEY) as page:
        page.on("dialog", lambda dialog: pytest.fail("a payload opened a dialog"))
        yield page
        page.wait_for_timeout(300)  # what would run does so when its picture has failed to load
        assert page.evaluate("window.hacked") is None
        assert page.locator(MADE).count() == 0


def shown(page: Any, selector: str, payload: str) -> bool:
    """Return whether the element shows the payload character by character, apart from spaces."""
    return "".join(payload.split()) in "".join(page.locator(selector).inner_text().split())


def test_rows_of_an_upload_are_shown_as_text(visitor: Any, tmp_path: Path) -> None:
    rows = [{"instruction": f"{payload} {number}", "output": payload} for number, payload in enumerate(PAYLOADS)]
    rows.append({"instruction": "bad", "output": {ALL: 1}})
    rows.append({"messages": [{"role": ALL, "content": ALL}]})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    own_file(visitor)
    upload(visitor, "#data-file", tmp_path / "rows.jsonl")
    text_of(visitor, "#data-report", "In use: rows.jsonl")
    seen: set[str] = set()
    for place in range(1, len(PAYLOADS) + 1):
        visitor.locator("#data-row input[type=number]").fill(str(place))
        visitor.locator("#data-row input[type=number]").press("Tab")
        end, found = time.monotonic() + 20, set[str]()
        while not found and time.monotonic() < end:
            found = {payload for payload in PAYLOADS if shown(visitor, "#data-rendered", payload)} - seen
        seen |= found
    assert seen == set(PAYLOADS)


def test_columns_and_file_names_are_shown_as_text(visitor: Any, tmp_path: Path) -> None:
    header = ",".join('"' + payload.replace('"', '""') + '"' for payload in PAYLOADS)
    name = "x<img src=x onerror=hacked=1>.csv"
    (tmp_path / name).write_text(header + "\n" + "a," * (len(PAYLOADS) - 1) + "a\n", encoding="utf-8")
    own_file(visitor)
    upload(visitor, "#data-file", tmp_path / name)
    visitor.locator("#data-problem", has_text="The columns are <img src=x").wait_for()
    visitor.locator("#data-problem [data-do=columns]").click()
    visitor.wait_for_function("document.activeElement === document.querySelector('#data-layout input')")
    visitor.locator("#data-layout input").click()
    visitor.get_by_role("option", name="Question, answer", exact=True).click()
    text_of(visitor, "#data-part-0", "Question column")
    visitor.locator("#data-part-0 input").click()
    assert any(PAYLOADS[0] in text for text in visitor.get_by_role("option").all_inner_texts())


def test_a_record_is_shown_as_text_everywhere(lab_address: str, lab_home: Path, visitor: Any) -> None:
    study = EXAMPLE.model_copy(update={"title": ALL[:200]})
    record = create(study, KEY, folder=lab_home / "runs")
    record.update_about(data={"title": ALL}, model={"name": ALL})
    record.append({"event": "failed", "message": ALL})
    arms = {name: {"text": ALL, "tokens": 3, "ended": "stop"} for name in ("base", *study.arms)}
    record.write_answers([{"prompt": ALL, "reference": ALL, "arms": arms}], study.seed)
    for arm in study.arms:
        record.arm_folder(arm, study.seed).mkdir(parents=True)
        (record.arm_folder(arm, study.seed) / ADAPTER).touch()
    open_tab(visitor, "Runs")
    visitor.locator(".lab-runs button", has_text="Failed").click()
    visitor.locator("#runs-state [data-state=failed]").wait_for()
    visitor.locator("#runs-answers section").first.wait_for()
    for payload in PAYLOADS:
        assert shown(visitor, "#runs-answers", payload), payload
        assert shown(visitor, "#runs-state", payload), payload
    assert shown(visitor, ".lab-runs", PAYLOADS[0])
    visitor.get_by_text("Settings (study.toml)").click()
    text_of(visitor, "#runs-settings", "onerror=window.hacked=1")
    visitor.goto(f"{lab_address}?job={record.id}")
    visitor.wait_for_function("window.Lab && document.body.dataset.labOpened")
    open_tab(visitor, "Train")
    visitor.locator("#train-state [data-state=failed]").wait_for()
    assert shown(visitor, "#train-state", PAYLOADS[0])
    open_tab(visitor, "Compare")
    visitor.locator("#compare-answers section", has_text="window.hacked").first.wait_for()
    visitor.locator("#compare-record input").click()
    assert "window.hacked=1" in visitor.get_by_role("option").first.inner_text()


def test_a_sentence_from_a_link_is_shown_as_text_and_saved_without_formulas(browser: Any, lab_address: str) -> None:
    text = f"=1+1 {PAYLOADS[0]} <b>bold</b> {PAYLOADS[6]}"
    with visiting(browser, lab_address, link=f"?text={quote(text)}&noise.kind={quote(PAYLOADS[0])}") as page:
        page.on("dialog", lambda dialog: pytest.fail("a payload opened a dialog"))
        page.wait_for_function("document.querySelector('#noise-chips').innerText.includes('=')")
        assert "=1+1<img" in "".join(page.locator("#noise-chips").inner_text().split()).replace("·", "")
        page.locator("#noise-figure svg.main-svg").first.wait_for()
        page.locator(".lab-message button").first.click()  # what could not be kept of the link
        page.locator(".lab-message").first.wait_for(state="detached")
        with page.expect_download() as download:
            page.locator("#noise-figure [data-format=csv]").click(force=True)
        rows = list(csv.reader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
        cells = [cell for row in rows for cell in row]
        assert any(cell.startswith("'=") for cell in cells)
        assert not any(cell.startswith(("=", "+", "@", "\t", "\r")) for cell in cells)
        page.wait_for_timeout(300)
        assert page.evaluate("window.hacked") is None
        assert page.locator(f"#noise-figure b, #noise-chips b, {MADE}").count() == 0


def test_a_model_that_does_not_exist_is_shown_as_text(visitor: Any) -> None:
    visitor.locator("[data-do=model]").click()
    for payload in (PAYLOADS[0], PAYLOADS[2], PAYLOADS[6]):
        box = visitor.locator("#model-source input")
        box.fill(payload)
        box.press("Enter")
        visitor.get_by_text("Not on the list").wait_for()
        visitor.locator("#model-use").click()
        visitor.locator(".lab-message", has_text=payload).wait_for()
        assert visitor.locator(MADE).count() == 0


INSERTED = """() => {
    window.blocked = 0;
    document.addEventListener("securitypolicyviolation", () => (window.blocked += 1));
    const made = document.createElement("div");
    made.innerHTML = `<img src=x onerror="window.hacked=1">`;
    const script = document.createElement("script");
    script.textContent = "window.hacked=1";
    document.body.append(made, script);
}"""


def test_markup_that_got_into_the_page_runs_no_script(browser: Any, lab_address: str) -> None:
    with blank_page(browser) as page:
        page.goto(lab_address)
        page.wait_for_function("window.Lab")
        page.evaluate(INSERTED)
        page.wait_for_function("window.blocked >= 2")
        assert page.evaluate("window.hacked") is None
