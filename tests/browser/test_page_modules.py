"""The page's JavaScript that knows no page, in Chromium, against numbers that Python computes."""

from __future__ import annotations

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


def test_mathematics_of_the_page_is_that_of_python_in_the_browser(browser: Any) -> None:
    page = browser.new_page()

    def file(route: Any) -> None:
        path = ROOT / route.request.url.removeprefix("http://modules.test/")
        script = path.suffix in (".js", ".mjs")
        route.fulfill(
            body=path.read_bytes() if script else b"", content_type="text/javascript" if script else "text/html"
        )

    page.route("http://modules.test/**", file)
    page.goto("http://modules.test/")
    count, failed = page.evaluate(RUN, numbers())
    page.close()
    assert (count, failed) == (18, {})
