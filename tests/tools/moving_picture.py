"""The moving picture of the README: `python -m tests.tools.moving_picture assets/docs/pictures/lab.gif`.

The strength slider is moved, a study is trained, and its verdict is shown. The lab that is recorded keeps its records
in a temporary folder. Needs Playwright, Pillow and a Chromium of the system.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from neftune_core.bench.page import automated_browser, serve_lab

Frame = tuple[bytes, int]
"""A screenshot as PNG, and the milliseconds for which it is shown."""

SIZE = {"width": 1100, "height": 760}
STRENGTHS = (5, 6, 8, 10, 12, 14, 16, 18, 20, 18, 15, 12, 10)
SEEDS = 6
SLIDER_MILLISECONDS, TRAINING_MILLISECONDS, HOLD_MILLISECONDS = 120, 140, 3500
TRAINING_FRAMES = 24
COLOURS = 64
MOST_BYTES = 2_000_000
PATIENCE = 120_000
HEAD_PIXELS = 110
"""Height of the strip, which stays in view."""

MOVE = """(strength) => {
  const slider = document.querySelector('#noise-strength input[type=range]');
  slider.value = strength;
  slider.dispatchEvent(new Event('input', {bubbles: true}));
}"""


def record_page(file: Path) -> int:
    """Record the page as a GIF.

    Args:
        file: Where the GIF is written.

    Returns:
        The size of the file in bytes.

    Raises:
        ValueError: The GIF would be larger than `MOST_BYTES`.
    """
    with (
        tempfile.TemporaryDirectory() as home,
        serve_lab(NEFTUNE_HOME=home) as (address, _),
        automated_browser() as browser,
    ):
        page = browser.new_page(viewport=SIZE, locale="en-GB")
        page.set_default_timeout(PATIENCE)
        page.goto(f"{address.rstrip('/')}?tab=Noise")
        page.wait_for_function("window.Lab && document.body.dataset.labOpened")
        frames = [*_slider(page), *_training(page), *_verdict(page)]
    made = _gif(frames)
    if len(made) > MOST_BYTES:
        raise ValueError(f"The picture has {len(made):,} bytes, and at most {MOST_BYTES:,} are allowed.")
    file.write_bytes(made)
    return len(made)


def _slider(page: Any) -> Iterator[Frame]:
    page.locator("#noise-figure .lab-figure-plot svg.main-svg").first.wait_for()
    for strength in STRENGTHS:
        page.evaluate(MOVE, strength)
        time.sleep(0.2)
        yield page.screenshot(), SLIDER_MILLISECONDS
    time.sleep(1)
    yield page.screenshot(), SLIDER_MILLISECONDS * 6


def _training(page: Any) -> list[Frame]:
    """Return evenly spaced screenshots of a whole study."""
    page.get_by_role("tab", name="Train", exact=True).click()
    seeds = page.locator("#train-seeds input[type=number]")
    seeds.fill(str(SEEDS))
    seeds.press("Tab")
    page.locator("#train-plan", has_text=f"{SEEDS} seeds of").wait_for()
    page.locator("#lab-train").click()
    page.locator("#train-state [data-state=running]").wait_for()
    seen = []
    while not page.locator("#train-state").locator("[data-state=finished], [data-state=failed]").count():
        seen.append(page.screenshot())
        time.sleep(0.3)
    page.locator("#train-state [data-state=finished]").wait_for()
    spacing = max(1, len(seen) // TRAINING_FRAMES)
    return [(frame, TRAINING_MILLISECONDS) for frame in seen[::spacing]]


def _verdict(page: Any) -> Iterator[Frame]:
    time.sleep(1)
    yield page.screenshot(), TRAINING_MILLISECONDS * 8
    card = page.locator("#train-tab .lab-evidence").first
    card.wait_for()
    card.evaluate("(card, head) => window.scrollBy(0, card.getBoundingClientRect().top - head)", HEAD_PIXELS)
    time.sleep(1)
    yield page.screenshot(), HOLD_MILLISECONDS


def _gif(frames: list[Frame]) -> bytes:
    """Quantise all frames with one palette, so that only differences between frames are stored."""
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png, _ in frames]
    width, height = pictures[0].size
    mixed = Image.new("RGB", (width, 3 * height))
    for place, picture in enumerate((pictures[0], pictures[len(pictures) // 2], pictures[-1])):
        mixed.paste(picture, (0, place * height))
    palette = mixed.quantize(COLOURS, dither=Image.Dither.NONE)
    first, *others = (picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures)
    out = io.BytesIO()
    times = [milliseconds for _, milliseconds in frames]
    first.save(out, "GIF", save_all=True, append_images=others, duration=times, loop=0, optimize=False)
    return out.getvalue()


if __name__ == "__main__":
    print(record_page(Path(sys.argv[1])), "bytes")
