"""The page's JavaScript that knows no page, in Chromium, against numbers that Python computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from page_numbers import numbers

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
RUN = """async (numbers) => {
  const { checks } = await import("/tests/page_modules.mjs");
  const failed = {};
  const all = Object.entries(checks(numbers));
  for (const [name, check] of all) {
    try { check(); } catch (error) { failed[name] = error.message; }
  }
  return [all.length, failed];
}"""


GROW = """async () => {
  const { grow } = await import("/assets/page/dom.js");
  const answers = (text, more = "") => `<section><h3>Who?</h3><details><summary>data</summary></details><p>${text}</p>
    <footer>${text.length}</footer></section>${more}`;
  const wanted = (html) => Object.assign(document.createElement("template"), { innerHTML: html }).content;
  const [longer, other] = [answers("The owl lives <b>here</b>.", "<section>2</section>"), answers("A fox")];
  document.body.innerHTML = answers("The owl");
  document.querySelector("details").open = true;
  const text = document.querySelector("p").firstChild;
  getSelection().setBaseAndExtent(text, 4, text, 7);
  grow(document.body, wanted(longer));
  const kept = [String(getSelection()), text.isConnected, document.querySelector("details").open];
  const shown = () => document.body.innerHTML.replace(' open=""', "");
  const grown = shown();
  grow(document.body, wanted(other));
  return { kept, grown: grown === longer, replaced: shown() === other };
}"""


@pytest.fixture
def modules(browser: Any) -> Iterator[Any]:
    """Return an empty page that can import the page's modules."""
    page = browser.new_page()

    def file(route: Any) -> None:
        path = ROOT / route.request.url.removeprefix("http://modules.test/")
        script = path.suffix in (".js", ".mjs")
        route.fulfill(
            body=path.read_bytes() if script else b"", content_type="text/javascript" if script else "text/html"
        )

    page.route("http://modules.test/**", file)
    page.goto("http://modules.test/")
    yield page
    page.close()


def test_what_grows_keeps_what_is_selected_and_opened(modules: Any) -> None:
    assert modules.evaluate(GROW) == {"kept": ["owl", True, True], "grown": True, "replaced": True}


def test_mathematics_of_the_page_is_that_of_python_in_the_browser(modules: Any) -> None:
    count, failed = modules.evaluate(RUN, numbers())
    assert (count, failed) == (19, {})
