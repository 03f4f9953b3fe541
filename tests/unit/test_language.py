"""Translation: the catalogue has exactly the texts in use, and handlers keep their language."""

from __future__ import annotations

import ast
import json
import re
import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neftune_core import language
from neftune_core.data.formats import hub_rows
from neftune_core.data.formats.starters import STARTERS
from neftune_core.data.layouts import LAYOUTS
from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import MethodSettings, TrainingSettings
from neftune_core.errors import Cancelled
from neftune_core.evaluation.measures import MEASURES
from neftune_core.evaluation.settings import DecodingSettings, MeasuringSettings
from neftune_core.evaluation.verdict_words import SENTENCES
from neftune_core.home import LOST_HERE, LOST_ON_SPACE, UNUSABLE_ON_SPACE, assets
from neftune_core.language import (
    CHINESE,
    ENGLISH,
    catalogue,
    in_language,
    plural,
    say,
    stored_texts,
    translate_finished,
)
from neftune_core.lessons.faults import FAULTS
from neftune_core.models.cards import CATALOGUE
from neftune_core.models.settings import ModelSettings
from neftune_core.models.sources import hub_files
from neftune_core.noise.settings import NoiseSettings
from neftune_core.sentences import sentence
from neftune_core.settings import Settings, controls
from neftune_core.studies.settings import PRESETS, StudySettings
from neftune_core.sweeps.record import Sweep
from neftune_core.ui.parts.markup import TEMPLATES, TRANSLATED
from neftune_core.ui.parts.wiring import reports_errors

PACKAGE = Path(language.__file__).parent
ON_THE_PAGE: tuple[type[Settings], ...] = (
    DataSettings, DecodingSettings, MeasuringSettings, ModelSettings, NoiseSettings, MethodSettings,
    TrainingSettings,
)  # fmt: skip
RECORDED = [Sweep(path) for path in sorted((assets() / "recorded").iterdir())]
FAMILIES = json.loads((assets() / "docs" / "families.json").read_text(encoding="utf-8"))
SEEDS = ("seed", "seeds", "live")  # what the page shows of the study's own settings


def literals() -> Iterator[str]:
    """Return the literals passed to `say`, `later` and `plural` in the package."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = {"say": node.args[:1], "later": node.args[:1], "plural": node.args[1:]}.get(node.func.id, [])
                yield from (text.value for text in given if isinstance(text, ast.Constant))


def of_settings() -> Iterator[str]:
    """Return label, help, unit and choices of every setting on the page."""
    seeds = [found for found in controls(StudySettings) if found.name in SEEDS]
    for found in [*seeds, *(found for settings in ON_THE_PAGE for found in controls(settings))]:
        yield from filter(None, (found.label, found.help, found.unit, *(found.choices or {}).values()))


def of_tables() -> Iterator[str]:
    """Return the texts of tables that are translated where they are used."""
    yield from SENTENCES.values()
    yield from (LOST_HERE, LOST_ON_SPACE, UNUSABLE_ON_SPACE)
    yield from PRESETS
    yield from (found.words for table in (PRESETS, FAULTS) for found in table.values())
    for card in CATALOGUE.values():
        yield from filter(None, (card.words, card.note))
    for found in MEASURES.values():
        yield from (found.label, found.group, found.words)
    yield from STARTERS
    yield from (found.words for found in STARTERS.values())
    yield from (words for found in FAULTS.values() for words in (found.damage, found.why))
    yield from (sweep.settings.title for sweep in RECORDED)
    yield from (found["words"] for found in FAMILIES["families"].values())
    for layout in LAYOUTS.values():
        yield from filter(None, (layout.words, layout.note, *layout.parts))
    yield from (entry["sentence"] for entry in (*hub_rows.EXPLANATIONS, *hub_files.EXPLANATIONS))


def in_templates() -> Iterator[str]:
    """Return the texts in the HTML templates of the page."""
    for path in TEMPLATES.glob("*.html"):
        yield from TRANSLATED.findall(path.read_text(encoding="utf-8"))


def texts() -> set[str]:
    return {*literals(), *of_settings(), *of_tables(), *in_templates(), *language.in_scripts()}


def values_of(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_every_text_has_a_translation_and_no_translation_is_without_its_text() -> None:
    known = set(catalogue(CHINESE))
    assert texts() - known == set()
    assert known - texts() == set()


def test_translations_are_not_empty_and_have_the_values_of_their_text() -> None:
    for text, translated in catalogue(CHINESE).items():
        assert translated.strip()
        assert values_of(translated) == values_of(text), text


def test_notes_of_earlier_versions_are_translated() -> None:
    former = {text: said for text, said in stored_texts(CHINESE).items() if text not in catalogue(CHINESE)}
    assert len(former) > 20
    assert all(values_of(text) == values_of(said) and said for text, said in former.items())
    kept = "Rows with a system prompt: 1,200. It is kept, and is not trained on."
    assert translate_finished(kept) == kept
    with in_language(CHINESE):
        assert translate_finished(kept) == "带系统提示的行：1,200 行。系统提示保留，但不参与训练。"
        assert say(kept) == kept


def test_the_catalogue_is_sorted() -> None:
    assert list(catalogue(CHINESE)) == sorted(catalogue(CHINESE))


def test_what_is_not_translated_is_shown_in_english() -> None:
    with in_language(CHINESE):
        assert say("Nobody wrote this: {count:,} rows.", count=1200) == "Nobody wrote this: 1,200 rows."


@pytest.mark.parametrize(("count", "said"), [(0, "0 steps"), (1, "1 step"), (1200, "1,200 steps")])
def test_numbers_agree_with_their_nouns(count: int, said: str) -> None:
    words = plural(count, "{steps:,} step", "{steps:,} steps")
    assert say(words, steps=count) == said
    with in_language(CHINESE):
        assert say(words, steps=count) == f"{count:,} 步"


def test_sentences_on_one_thing_are_retold() -> None:
    with in_language(CHINESE):
        assert translate_finished("the first held-out row") == "第 1 条留出数据"
        assert (
            translate_finished("Stopped on request, with 0 of 1 study done.") == "已按要求停止，1 项实验中完成了 0 项。"
        )


def test_a_value_with_braces_is_inserted_unchanged() -> None:
    assert say("It says {text}.", text="{0} {name}") == "It says {0} {name}."
    assert say("{is left alone}") == "{is left alone}"


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("Stopped while waiting.", "在排队时停止。"),
        ("the first 12 held-out rows", "前 12 条留出数据"),
        ("Stopped on request, with 2 of 8 studies done.", "已按要求停止，8 项实验中完成了 2 项。"),
        (
            "1 of 8 studies failed, the first with: The disk is full: free some space, for example by removing "
            "downloaded models, and start again. The results of the other studies are in the table; resume the sweep "
            "to retry the failed ones.",
            "8 项实验中有 1 项失败，第一项的原因：磁盘已满：请腾出空间（例如删除下载的模型），然后重新开始。"
            "其余结果在表中；按“恢复运行”可重试失败的实验。",
        ),
        (
            "the first 8 held-out prompts and the first 4 training prompts, greedy, at most 32 tokens, no repetition "
            "penalty",
            "前 8 条留出提示和前 4 条训练提示，贪心解码，最多 32 个词元，无重复惩罚",
        ),
        ("What somebody wrote {braces} about 3 of 8 studies.", "What somebody wrote {braces} about 3 of 8 studies."),
    ],
)
def test_what_a_record_keeps_in_english_is_retold_with_its_values(kept: str, said: str) -> None:
    assert translate_finished(kept) == kept
    with in_language(CHINESE):
        assert translate_finished(kept) == said


@pytest.mark.parametrize(
    ("error", "english", "chinese"),
    [
        (Cancelled(), "Stopped on request.", "已按要求停止。"),
        (MemoryError(), "This machine ran out of memory", "这台机器的内存用完了"),
        (OSError(28, "No space left on device"), "The disk is full", "磁盘已满"),
        (
            PermissionError(13, "", "/a/{b}"),
            "The file or folder /a/{b} cannot",
            "无法使用文件或文件夹 /a/{b}：没有权限",
        ),
        (ZeroDivisionError(), "An internal error occurred; the log", "实验室内部出错；详情见日志"),
    ],
)
def test_any_exception_is_one_sentence_in_the_language_of_the_page(
    error: BaseException, english: str, chinese: str
) -> None:
    assert english in sentence(error)
    with in_language(CHINESE):
        assert chinese in sentence(error)


def test_a_handler_speaks_the_language_it_was_wired_in() -> None:
    with in_language(CHINESE):
        heard = reports_errors(language.current)
    assert (heard(), language.current()) == (CHINESE, ENGLISH)


def test_a_generator_speaks_its_language_at_every_step_and_keeps_nothing_between_them() -> None:
    ended: list[str] = []

    def speak() -> Iterator[Any]:
        try:
            yield language.current()
            yield language.current()
        finally:
            ended.append("closed")

    with in_language(CHINESE):
        steps = reports_errors(speak)()
    for value in steps:
        assert (value, language.current()) == (CHINESE, ENGLISH)
    broken_off = reports_errors(speak)()
    assert next(broken_off) == ENGLISH
    broken_off.close()
    assert ended == ["closed", "closed"]


def test_scripts_say_their_texts_as_literals() -> None:
    """A text that was put together would be looked up as nothing that the catalogue has."""
    for path in (PACKAGE.parent / "assets" / "page").glob("*.js"):
        put_together = re.findall(r"\b(?:text|agreeing)\((?:\s*[\w.]+,)?\s*`.*", path.read_text(encoding="utf-8"))
        assert put_together == [], path.name
