"""A GPU allocated per call: inputs and outputs, duration, and withdrawal."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest
import torch
from lent_gpu import Platform, PlatformError, one_thread

from neftune_core.data.examples import Message
from neftune_core.errors import DoesNotFit, NotAvailable
from neftune_core.evaluation.settings import AnswerSettings
from neftune_core.language import CHINESE, in_language
from neftune_core.models import device
from neftune_core.models.architecture.module_trees import fingerprint
from neftune_core.models.loading import load
from neftune_core.models.settings import ModelSettings
from neftune_core.noise.settings import NoiseSettings
from neftune_core.settings import Limits
from neftune_core.space import gpu_seconds, zero_gpu
from neftune_core.space.profiles import PROFILES, host_profile
from neftune_core.studies.comparison import SelectedArm, compare_arms, comparison_request, passes
from neftune_core.studies.prompts import Prompt
from neftune_core.studies.records.record import Record, create
from neftune_core.studies.settings import EXAMPLE, StudySettings
from neftune_core.studies.study import run_study
from neftune_core.sweeps.queue import LabJobs
from neftune_core.ui.server.lab import Lab

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the platform forks, on Linux")

STUDY = EXAMPLE.model_copy(
    update={
        "training": EXAMPLE.training.model_copy(update={"steps": 3, "evaluations": 1, "evaluation_rows": 4}),
        "answers": AnswerSettings(prompts=("Where does the owl live?",), new_tokens=4),
    }
)
LONG = STUDY.model_copy(
    update={"training": STUDY.training.model_copy(update={"steps": 500, "checkpoint_steps": 1, "evaluations": 1})}
)
ENDLESS = LONG.model_copy(update={"training": LONG.training.model_copy(update={"steps": 20_000})})
ASK = AnswerSettings(prompts=("Where does the owl live?",), new_tokens=6)
QUESTION = [Prompt((Message("user", "Where does the owl live?"),))]


@pytest.fixture
def platform() -> Iterator[Platform]:
    made = Platform()
    yield made
    made.close()
    device.allow_gpu()


def lent(platform: Platform) -> zero_gpu.AllocatedGpu:
    return zero_gpu.AllocatedGpu(platform.gpu)


def new(study: StudySettings = STUDY) -> Record:
    return create(study, "")


def test_a_study_in_one_call_gives_the_numbers_of_one_without(platform: Platform) -> None:
    base = load(ModelSettings(device="cpu"))
    before = fingerprint(base.model)
    with one_thread():
        alone = new()
        list(run_study(alone, Limits(), lambda: False))
    gpu, inside, again = lent(platform), new(), new()
    events = list(gpu.study(inside, Limits(), lambda: False))
    list(gpu.study(again, Limits(), lambda: False))
    assert len(platform.workers) == 1  # the second call was the same worker's
    assert events[-1]["event"] == "finished"
    assert json.loads(json.dumps(events)) == events  # plain values: nothing of a device comes back
    numbers = [_numbers(record) for record in (alone, inside, again)]
    assert numbers[0] == numbers[1] == numbers[2]
    assert alone.answers() == inside.answers() == again.answers()
    assert fingerprint(base.model) == before


def _numbers(record: Record) -> list[object]:
    return [(event["event"], event.get("step"), event.get("arms")) for event in record.events() if "arms" in event]


def test_the_platform_gets_the_seconds_that_the_visitor_sees(platform: Platform) -> None:
    gpu, loaded = lent(platform), load(ModelSettings(device="cpu"))
    record = new()
    list(gpu.study(record, Limits(), lambda: False))
    rows = record.about_table("data")["train"]
    seconds = gpu.seconds(STUDY, rows, loaded)
    assert platform.durations == [seconds]
    assert f"about {seconds} seconds" in gpu.words(seconds)
    assert "Keep the page open" in gpu.words(seconds)


def test_the_estimate_grows_with_the_study_and_the_longest_is_refused_before_the_start(platform: Platform) -> None:
    loaded = load(ModelSettings(device="cpu"))
    more = STUDY.model_copy(update={"seeds": 4})
    assert gpu_seconds.study_seconds(more, 50, 8, 1000) > gpu_seconds.study_seconds(STUDY, 50, 8, 1000)
    assert gpu_seconds.study_seconds(STUDY, 50, 30, 10**9) > gpu_seconds.study_seconds(STUDY, 50, 8, 10**6)
    together, in_turn = (_with(steps=500, arms_at_once=turns) for turns in ("together", "in-turn"))
    beyond_start = [
        gpu_seconds.study_seconds(one, 50, 8, 1000) - gpu_seconds.START_SECONDS for one in (together, in_turn)
    ]
    assert beyond_start[1] > 1.5 * beyond_start[0]
    endless = STUDY.model_copy(update={"training": STUDY.training.model_copy(update={"steps": 20_000})})
    gpu = lent(platform)
    with pytest.raises(DoesNotFit, match="the limit is 120"):
        gpu.seconds(endless, 50, loaded)
    assert platform.durations == []


def test_answering_is_asked_for_as_many_decodes_as_follow_each_other(platform: Platform) -> None:
    record, full = new(), new(_with(method="full"))
    run = list(run_study(record, Limits(), lambda: False))
    assert run[-1]["event"] == "finished"
    assert record.about_table("model")["layers"] == load(ModelSettings(device="cpu")).layers
    arms = [SelectedArm(record, name, 0) for name in STUDY.arms]
    copies = [SelectedArm(full, name, 0) for name in STUDY.arms]
    assert passes(arms) == 1
    assert passes(copies) == len(copies) + 1  # and the base
    assert passes([*arms, *copies]) == 1 + len(copies)
    long = ASK.model_copy(update={"new_tokens": 256})
    once = gpu_seconds.answer_seconds(arms, long)
    assert gpu_seconds.answer_seconds([*arms, *copies], long) > 1.5 * once
    assert platform.durations == []


def test_every_way_through_the_model_is_counted_after_the_others() -> None:
    kinds = {"uniform": {}, "symmetric": {}, "adversarial": {"ascent_steps": 3}}
    noise = tuple(NoiseSettings(kind=kind, strength=1, **more) for kind, more in kinds.items())
    study = STUDY.model_copy(update={"noise": noise})
    assert gpu_seconds.pass_groups(study) == [(1, 2), (2, 1), (4, 1)]
    in_turn = study.model_copy(update={"training": study.training.model_copy(update={"arms_at_once": "in-turn"})})
    assert gpu_seconds.pass_groups(in_turn) == [(1, 1), (1, 1), (2, 1), (4, 1)]


def test_a_fault_in_the_worker_is_reported_as_its_own(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("CUDA error: out of memory")

    record, gpu = new(), lent(platform)
    with monkeypatch.context() as patch:
        patch.setattr(zero_gpu, "allow_gpu", broken)  # what a worker begins with
        last = list(gpu.study(record, Limits(), lambda: False))[-1]
        with pytest.raises(NotAvailable, match="machine ran out of memory"):
            list(gpu.answers([SelectedArm(record, "control", 0)], QUESTION, ASK, Limits()))
    assert "machine ran out of memory" in last["message"]
    assert record.ending() is not None


def test_a_record_that_another_process_writes_is_left_to_it(platform: Platform) -> None:
    record = new()
    with record.claimed():
        last = list(lent(platform).study(record, Limits(), lambda: False))[-1]
    assert "already running" in last["message"]
    assert record.events() == []


def test_an_error_after_the_end_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends_badly(*_: object) -> Iterator[dict[str, object]]:
        yield {"event": "finished"}
        raise PlatformError("ZeroGPU worker error", "GPU task aborted")

    gpu, record = zero_gpu.AllocatedGpu(lambda **_: lambda task: ends_badly), new()
    monkeypatch.setattr(zero_gpu, "record_seconds", lambda record, limits: 40)
    assert list(gpu.study(record, Limits(), lambda: False)) == [{"event": "finished"}]
    assert record.events() == []
    with pytest.raises(NotAvailable, match="before all answers were complete"):
        list(
            zero_gpu.AllocatedGpu(lambda **_: lambda task: _taken).answers(
                [SelectedArm(record, "control", 0)], QUESTION, ASK, Limits()
            )
        )
    device.allow_gpu()


def _taken(*_: object) -> Iterator[object]:
    yield {"value": []}
    raise PlatformError("ZeroGPU worker error", "GPU task aborted")


def test_a_full_disk_is_not_the_quota_of_the_platform() -> None:
    assert "disk is full" in zero_gpu.refusal(OSError(errno.EDQUOT, "Disk quota exceeded"))


def test_what_the_platform_says_is_reported_in_the_language_of_the_page() -> None:
    with in_language(CHINESE):
        told = zero_gpu.refusal(
            PlatformError("ZeroGPU quota exceeded", "(60s requested vs. 4s left). Try again in 3:02:01")
        )
    assert "60 秒" in told
    assert "lends" not in told


def _with(**training: object) -> StudySettings:
    return STUDY.model_copy(update={"training": STUDY.training.model_copy(update=training)})


def test_a_refusal_of_quota_becomes_its_sentence(platform: Platform) -> None:
    platform.quota = 5
    record = new()
    last = list(lent(platform).study(record, Limits(), lambda: False))[-1]
    assert last["event"] == "failed"
    assert "not have enough GPU time left on Hugging Face" in last["message"]
    assert "5 seconds left" in last["message"]
    assert "3:25:01" in last["message"]
    assert record.ending() is not None
    with pytest.raises(NotAvailable, match="GPU time"):
        list(lent(platform).answers([SelectedArm(record, "control", 0)], QUESTION, ASK, Limits()))


@pytest.mark.parametrize(
    ("title", "message", "words"),
    [
        ("ZeroGPU worker error", "GPU task aborted", "withdrawn"),
        (
            "ZeroGPU illegal duration",
            "The requested GPU duration (900s) is larger than the maximum allowed",
            "fewer steps",
        ),
        ("ZeroGPU pending credits exceeded", "You have too many credits allocated to running tasks.", "still running"),
        ("ZeroGPU quota exceeded", "Space app has reached its GPU limit.", "come back tomorrow"),
        ("ZeroGPU quota exceeded", "(60s requested vs. 4s left). Try again in 1 day, 3:02:01. ", "in 1 day, 3:02:01"),
        ("", "something", "An internal error"),
    ],
)
def test_what_the_platform_says_becomes_one_sentence(title: str, message: str, words: str) -> None:
    told = zero_gpu.refusal(PlatformError(title, message))
    assert words in told
    assert "\n" not in told


def test_a_study_stops_by_itself_before_its_time_is_over(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_gpu, "record_seconds", lambda record, limits: 100)
    monkeypatch.setattr(zero_gpu, "SAVING_SECONDS", 92)  # leaves eight up to its first step
    record = new(ENDLESS)
    last = list(lent(platform).study(record, Limits(), lambda: False))[-1]
    assert last["event"] == "stopped"
    assert "allocated GPU time had nearly run out" in last["message"]
    assert (record.arm_folder("control", 0) / "adapter_model.safetensors").is_file()


def test_a_gpu_that_is_withdrawn_leaves_a_record_that_can_continue(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.only = 12
    monkeypatch.setattr(zero_gpu, "record_seconds", lambda record, limits: 100)
    record = new(ENDLESS)
    last = list(lent(platform).study(record, Limits(), lambda: False))[-1]
    assert last["event"] == "failed"
    assert "withdrawn" in last["message"]
    assert not record.is_running()
    done = max(event["step"] for event in record.events() if event["event"] == "step")
    assert done > 5
    platform.only, steps = None, list[int]()
    again = lent(platform).study(record, Limits(), lambda: bool(steps))
    for event in again:
        steps += [event["step"]] if event["event"] == "step" else []
    assert event["event"] == "stopped"
    assert abs(steps[0] - done) <= 2  # from the last checkpoint, which is written beside the log


def test_a_stop_reaches_the_worker_and_keeps_the_last_whole_step(platform: Platform) -> None:
    record, seen = new(LONG.model_copy(update={"title": "stop"})), []
    for event in lent(platform).study(record, Limits(), lambda: len(seen) > 3):
        seen.append(event)
    assert seen[-1]["event"] == "stopped"
    assert seen[-1]["message"] == "Stopped on request."
    assert not (record.folder / zero_gpu.STOP).exists()


def test_a_caller_who_leaves_ends_the_work_at_a_yield(platform: Platform) -> None:
    record = new(LONG)
    events = lent(platform).study(record, Limits(), lambda: False)
    for event in events:
        if event["event"] == "step":
            break
    events.close()  # type: ignore[attr-defined]
    end = time.monotonic() + 30
    while record.is_running() and time.monotonic() < end:
        time.sleep(0.1)
    assert not record.is_running()


def test_answers_in_a_call_are_those_without(platform: Platform) -> None:
    record, gpu = new(), lent(platform)
    list(gpu.study(record, Limits(), lambda: False))
    lines: list[dict[str, object]] = []
    asked = comparison_request(record, ASK)
    for lines in gpu.answers(*asked, ASK, Limits()):  # noqa: B007 - the last one is the whole
        pass
    *_, alone = compare_arms(*comparison_request(record, ASK), ASK, Limits())
    assert lines == alone
    (record.arm_folder("control", 0) / "adapter_model.safetensors").unlink()
    for arm in record.arms:
        (record.arm_folder(arm, 0) / "adapter_model.safetensors").unlink(missing_ok=True)
    with pytest.raises(NotAvailable, match="is missing from this record"):
        list(gpu.answers(*asked, ASK, Limits()))


def test_arms_of_two_studies_continue_talking_in_one_call(platform: Platform) -> None:
    gpu, records = lent(platform), [new(), new(STUDY.model_copy(update={"seed": 5}))]
    for record in records:
        list(gpu.study(record, Limits(), lambda: False))
    chosen = [SelectedArm(records[0], "control", 0), SelectedArm(records[1], "control", 5)]
    own = {"base": (Message("user", "Who lives in the barn?"), Message("assistant", "The owl."), *QUESTION[0].messages)}
    prompts = [Prompt(QUESTION[0].messages, own=own)]
    *_, lines = gpu.answers(chosen, prompts, ASK, Limits())
    *_, alone = compare_arms(chosen, prompts, ASK, Limits())
    assert lines == alone
    assert len(lines[0]["arms"]) == 3


def test_a_job_runs_on_the_allocated_gpu_and_the_page_is_held_until_it_ends(platform: Platform) -> None:
    lab = Lab(host=host_profile({"NEFTUNE_PROFILE": "zerogpu"}), gpu=lent(platform))
    record = lab.jobs.submit(STUDY, "key")
    held = list(lab.attended(record, "key"))
    assert lab.jobs.status(record).state == "finished"
    assert all(outputs == gr.skip() for outputs in held)
    assert lab.attending == {"concurrency_limit": None}


def test_a_page_that_is_closed_ends_its_study(platform: Platform) -> None:
    lab = Lab(host=host_profile({"NEFTUNE_PROFILE": "zerogpu", "NEFTUNE_LIMIT_STEPS": "500"}), gpu=lent(platform))
    record = lab.jobs.submit(LONG.model_copy(update={"seed": 3}), "key")
    held = lab.attended(record, "key")
    next(held)
    held.close()  # type: ignore[attr-defined]
    assert lab.jobs.wait(record, 60).state in ("stopped", "failed")


def test_off_zerogpu_a_job_needs_no_page() -> None:
    lab = Lab()
    assert list(lab.attended(new(), "")) == []
    assert lab.attending == {}
    assert isinstance(LabJobs(Limits()), LabJobs)


def test_the_process_that_serves_uses_no_gpu_and_gives_the_reason(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent(platform)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose_device("auto").type == "cpu"
    with pytest.raises(NotAvailable, match="one call at a time"):
        device.choose_device("cuda")
    device.allow_gpu()
    assert device.choose_device("auto").type == "cuda"


ORDER = """
import sys, types
spaces = types.ModuleType("spaces")
assert "torch" not in sys.modules
spaces.GPU = lambda duration: (lambda task: task)
sys.modules["spaces"] = spaces
import neftune_core.ui.server.serve
assert "torch" not in sys.modules, "torch came before spaces"
from neftune_core.space import zero_gpu
zero_gpu.enter()
import torch
try:
    zero_gpu.enter()
except RuntimeError as error:
    print(error)
"""


def test_spaces_is_imported_before_torch_and_only_there(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", ORDER], capture_output=True, text=True, timeout=100, check=True)
    assert "torch was imported before spaces" in done.stdout
    sources = Path(zero_gpu.__file__).parents[1].rglob("*.py")
    naming = {path.name for path in sources if '"spaces"' in path.read_text(encoding="utf-8")}
    assert naming == {"zero_gpu.py", "folder.py"}
    assert [name for name, profile in PROFILES.items() if profile.gpu_in_request] == ["zerogpu"]
