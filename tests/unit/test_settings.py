"""Settings are declared once: range, file, link and errors follow from the declaration."""

from __future__ import annotations

import re

import pytest

from neftune_core.data.settings import DataSettings
from neftune_core.engine.settings import TrainingSettings
from neftune_core.errors import InvalidSetting
from neftune_core.language import CHINESE, in_language
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Settings, controls, from_query, from_toml, parse, to_toml
from neftune_core.studies.settings import StudySettings

STUDY = StudySettings(
    title='A "quoted" title\nof two lines',
    noise=(NoiseSettings(strength=5), NoiseSettings(strength=0.05, unit="std", kind="laplace")),
)


@pytest.mark.parametrize("comments", [False, True])
def test_a_study_comes_back_from_its_toml(comments: bool) -> None:
    assert from_toml(StudySettings, to_toml(STUDY, comments=comments)) == STUDY


def test_every_setting_has_help_and_a_default_within_its_range() -> None:
    found = controls(StudySettings)
    assert [control.name for control in found if not control.help] == []
    ranges = {one.name: (one.minimum, one.default, one.maximum) for one in found if one.minimum is not None}
    choices = {one.name: (one.default, one.choices) for one in found if one.choices is not None}
    assert min(len(ranges), len(choices)) > 8
    assert [name for name, (least, usual, most) in ranges.items() if not least <= usual <= most] == []
    assert [name for name, (usual, offered) in choices.items() if usual not in offered] == []


def test_a_link_carries_what_differs_from_the_defaults() -> None:
    query = {"learning_rate": "0.001", "schedule": "cosine", "batch_size": "8"}
    assert from_query(TrainingSettings, query) == TrainingSettings(learning_rate=1e-3, schedule="cosine", batch_size=8)


def test_a_link_is_clamped_and_its_unknown_names_are_ignored() -> None:
    settings = from_query(NoiseSettings, {"strength": "1e99", "kind": "<script>", "evil": "1", "unit": "std"})
    assert settings == NoiseSettings(strength=10_000, unit="std")
    assert from_query(NoiseSettings, {"strength": "nan"}) == NoiseSettings()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"training": {"epochs": -1}}, "training.epochs cannot be -1"),
        ({"training": {"epoch": 3}}, "no setting called 'training.epoch'"),
        ({"noise": [{"kind": "pink"}]}, "kind must be one of uniform, gaussian"),
        ({"noise": [{"strength": float("nan")}]}, "noise.0.strength"),
        ({"noise": []}, "at least one arm with noise"),
        ({"noise": [{}, {}]}, "wo noise arms are the same"),
        ({"noise": [{"strength": 0}]}, "strength 0 is the control"),
        ({"title": "x" * 300}, "title"),
    ],
)
def test_a_wrong_setting_gets_one_sentence_that_names_it(values: dict, words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        parse(StudySettings, values)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "values", "words"),
    [
        (NoiseSettings, {"strength": -1}, "The setting strength cannot be -1: it must be 0 or more"),
        (NoiseSettings, {"strength": "loud"}, "The setting strength cannot be 'loud'"),
        (NoiseSettings, {"kind": "pink"}, "Kind must be one of uniform"),
        (NoiseSettings, {"unit": "share"}, "The unit 'share' can only be used with token dropout"),
        (NoiseSettings, {"sites": "5-2"}, "The layers 5-2 are not a valid range"),
        (NoiseSettings, {"colour": "pink"}, "There is no setting called 'colour': change"),
        (StudySettings, {"noise": ()}, "Besides the control, a study needs at least one arm with noise"),
        (StudySettings, {"training": {"epochs": 0}}, "The setting training.epochs cannot be 0"),
    ],
)
def test_settings_made_in_code_get_the_same_sentence(settings: type[Settings], values: dict, words: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        settings(**values)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("values", "english", "chinese"),
    [
        ({"strength": -1}, "it must be 0 or more.", "设置 strength 不能是 -1：应大于或等于 0。"),
        ({"strength": 2e4}, "it must be 10000 or less.", "应小于或等于 10000。"),
        ({"strength": float("nan")}, "it must be a finite number.", "应是有限的数。"),
        (
            {"sites": "5-2"},
            "The layers 5-2 are not a valid range",
            "层 5-2 不是有效的范围：层号从 1 起，请先写较小的数。",
        ),
    ],
)
def test_a_wrong_setting_is_reported_in_the_language_of_the_page(values: dict, english: str, chinese: str) -> None:
    with pytest.raises(InvalidSetting, match=re.escape(english)):
        NoiseSettings(**values)
    with in_language(CHINESE), pytest.raises(InvalidSetting, match=re.escape(chinese) + "$"):
        NoiseSettings(**values)


def test_a_file_that_is_not_toml_gets_a_sentence() -> None:
    with pytest.raises(InvalidSetting, match="not valid TOML"):
        from_toml(StudySettings, "title = ")


def test_settings_with_tables_have_a_hash_that_is_their_value() -> None:
    first, same = (DataSettings(columns={"prompt": "question"}) for _ in range(2))
    assert hash(first) == hash(same)
    assert hash(first) != hash(DataSettings())
