"""A GPU allocated per call: the views of trained arms and of the noise inside a model, and models moved at start-up."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lent_gpu import Platform, one_thread

from neftune_core.errors import NotAvailable
from neftune_core.evaluation.settings import AnswerSettings, MeasuringSettings
from neftune_core.models import device, loading
from neftune_core.models.architecture.module_trees import fingerprint
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.space import gpu_seconds, zero_gpu
from neftune_core.space.profiles import host_profile
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.records.tokens import read_tokens
from neftune_core.studies.settings import EXAMPLE
from neftune_core.studies.study import run_study
from neftune_core.studies.trained.robustness import read_robustness
from neftune_core.ui.server.lab import Lab
from neftune_core.ui.tabs.views.compare_inside import ROBUSTNESS, ROWS, measuring, view_seconds
from neftune_core.ui.tabs.views.noise_inside import follow_on, measure_inside
from neftune_core.ui.tabs.views.noise_loss import measure_loss

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the platform forks, on Linux")

KEY = "a7" * 32
MODEL = ModelSettings(precision="float32")
NOISE = NoiseSettings(strength=10)
SENTENCE = "Where does the owl live?"
STUDY = EXAMPLE.model_copy(
    update={
        "training": EXAMPLE.training.model_copy(update={"steps": 2, "evaluations": 1, "evaluation_rows": 4}),
        "measuring": MeasuringSettings(prompts=2, new_tokens=2),
        "answers": AnswerSettings(prompts=(SENTENCE,), new_tokens=4),
    }
)


@pytest.fixture
def platform() -> Iterator[Platform]:
    made = Platform()
    with one_thread():
        yield made
    made.close()
    device.allow_gpu()


@pytest.fixture
def lab(platform: Platform) -> Lab:
    return Lab(host=host_profile({"NEFTUNE_PROFILE": "zerogpu"}), gpu=zero_gpu.AllocatedGpu(platform.gpu))


@pytest.fixture
def record(own_home: Path) -> Record:
    made = create(STUDY, KEY)
    assert list(run_study(made, Limits(), lambda: False))[-1]["event"] == "finished"
    return made


def view(lab: Lab, record: Record, name: str) -> list[Any]:
    *_, last = measuring(lab)(KEY, name, record.id, None)
    return last


@pytest.mark.parametrize(("name", "read", "place"), [(ROWS, read_tokens, 2), (ROBUSTNESS, read_robustness, 3)])
def test_a_view_of_trained_arms_is_measured_in_one_call_with_the_numbers_of_one_without(
    lab: Lab, platform: Platform, record: Record, name: str, read: Callable[[Record, int], Any], place: int
) -> None:
    shown_alone = view(Lab(), record, name)
    alone = read(record, 0)
    assert alone
    for file in [*record.folder.glob("robustness-*"), *record.folder.glob("tokens*")]:
        file.unlink()
    assert not read(record, 0)
    shown = view(lab, record, name)
    assert platform.durations == [view_seconds(record, name)]
    assert read(record, 0) == alone
    assert shown == shown_alone
    assert [number for number, drawn in enumerate(shown[2:], start=2) if drawn] == [place]


def test_depth_and_next_word_come_from_the_call_unless_the_model_is_tiny(
    lab: Lab, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = measure_inside(SENTENCE, MODEL, 1, NOISE)
    assert "problem" not in here
    assert follow_on(lab, SENTENCE, MODEL, 1, NOISE) == here
    assert platform.durations == []  # costs a visitor no GPU time
    monkeypatch.setattr(gpu_seconds, "PROCESSOR_PARAMETERS", 0)
    assert follow_on(lab, SENTENCE, MODEL, 1, NOISE) == json.loads(json.dumps(here))
    assert len(platform.durations) == 1


def test_the_loss_of_the_noise_tab_is_measured_in_the_call(lab: Lab, platform: Platform) -> None:
    *_, here = measure_loss(Lab(), EXAMPLE.data, MODEL, NOISE)
    *_, there = measure_loss(lab, EXAMPLE.data, MODEL, NOISE)
    assert here == there
    assert len(platform.durations) == 1


def test_what_the_platform_refuses_is_one_sentence_in_each_view(
    lab: Lab, platform: Platform, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.quota = 5
    monkeypatch.setattr(gpu_seconds, "PROCESSOR_PARAMETERS", 0)
    assert "5 seconds left" in follow_on(lab, SENTENCE, MODEL, 1, NOISE)["problem"]
    with pytest.raises(NotAvailable, match="5 seconds left"):
        view(lab, record, ROBUSTNESS)
    with pytest.raises(NotAvailable, match="5 seconds left"):
        list(measure_loss(lab, EXAMPLE.data, MODEL, NOISE))


def test_a_fault_of_a_measurement_is_its_sentence(lab: Lab, record: Record) -> None:
    for arm in record.arms:
        (record.arm_folder(arm, 0) / "adapter_model.safetensors").unlink()
    with pytest.raises(NotAvailable, match="Seed 0 has no trained arm"):
        view(lab, record, ROBUSTNESS)


def found_in_worker(model: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Load a model in a worker whose reading fails, and yield what was found."""
    loading.require_finite = None  # type: ignore[assignment]
    torch.cuda.is_available = lambda: True
    found = load(ModelSettings(**model))
    yield {"device": found.device.type, "fingerprint": fingerprint(found.model)}


def test_a_model_moved_to_cuda_at_start_up_is_found_there_by_calls_and_only_by_them(
    lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of its own: what is moved is never forgotten, and no other test may find it.
    model = ModelSettings(source=str(folder), precision="float32")
    moved: list[torch.nn.Module] = []
    before = torch.nn.Module.to

    def to(module: torch.nn.Module, where: Any, *given: Any) -> torch.nn.Module:
        if torch.device(where).type != "cuda":
            return before(module, where, *given)
        moved.append(module)
        return module  # the platform's stand-in keeps the tensors until a worker starts

    monkeypatch.setattr(torch.nn.Module, "to", to)
    assert lab.gpu is not None
    here = load(model)
    lab.gpu.place([model, ModelSettings(source="no/such-model", precision="float32")])
    (placed,) = moved
    assert load(model) is here
    assert here.device.type == "cpu"
    assert not {id(one) for one in here.model.parameters()} & {id(one) for one in placed.parameters()}
    loading.evict_all()
    (found,) = lab.gpu.run(found_in_worker, (model.model_dump(),), 30)
    assert found == {"device": "cuda", "fingerprint": fingerprint(here.model)}


START = """
import sys, types
spaces = types.ModuleType("spaces")
spaces.GPU = lambda duration: (lambda task: task)
sys.modules["spaces"] = spaces
from neftune_core.errors import ModelError
from neftune_core.models.sources.resolve import require_allowed
from neftune_core.space import zero_gpu
from neftune_core.ui.server.serve import serve
def place(self, models):
    from neftune_core.ui.server import launch
    try:
        require_allowed("no/such-model", "")
    except ModelError:
        print("placed", [one.source for one in models], "of the list")
    launch.launch = launched
def launched(*given):
    print("launched")
    raise SystemExit
zero_gpu.AllocatedGpu.place = place
serve()
"""


def test_the_models_of_the_image_are_moved_before_the_page_is_launched(tmp_path: Path) -> None:
    environment = {
        "NEFTUNE_HOME": str(tmp_path),
        "NEFTUNE_PROFILE": "zerogpu",
        "PATH": "/usr/bin",
        "HF_HUB_CACHE": str(tmp_path / "none"),
    }
    done = subprocess.run(
        [sys.executable, "-c", START], capture_output=True, text=True, timeout=300, check=True, env=environment
    )
    assert done.stdout.splitlines() == ["placed ['bundled'] of the list", "launched"]
