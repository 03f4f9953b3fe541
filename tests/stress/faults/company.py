"""A study while other visitors watch, compare and leave: neither side is affected."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from neftune_core.noise.settings import NoiseSettings
from tests.stress.faults.setup import OWNER, PROMPTS, Environment, numbers, still_held

if TYPE_CHECKING:
    from neftune_core.studies.records.record import Record


def page_closed(environment: Environment, chance: random.Random) -> str:
    """The watching page is closed during the run and an answer is aborted: the study continues and is complete."""
    from neftune_core.figures.curves import loss_curves
    from neftune_core.studies.comparison import compare_arms, comparison_request

    record = environment.jobs.submit(environment.study(), OWNER)
    growing: Any = compare_arms(*comparison_request(environment.whole, PROMPTS), PROMPTS, environment.limits)
    next(growing)
    watching = record.log()
    while not watching.read() and not environment.jobs.status(record).is_over:
        time.sleep(0.01)
    growing.close()
    del watching
    wrong = environment.ends(record)
    drawn = loss_curves(record.events(), record.arms)["data"]
    steps = {max(trace["x"]) for trace in drawn if "/loss/" in trace["uid"]}
    if numbers(record) != environment.uninterrupted or steps != {12}:
        wrong = wrong or f"the curves end at {steps}"
    return wrong or still_held()


def shared(environment: Environment, chance: random.Random) -> str:
    """Other visitors compare and preview noise during the study: the results of both are unchanged."""
    answered = environment.whole
    alone = [_answers(environment, answered), _looked_at_noise(environment)]
    wrong: list[str] = []
    over = threading.Event()

    def visit(look: Callable[[], Any], expected: Any) -> None:
        while not over.is_set():
            if look() != expected:
                wrong.append(f"{look} gave something else beside a study")
            time.sleep(chance.uniform(0, 0.01))

    visits = [(lambda: _answers(environment, answered), alone[0]), (lambda: _looked_at_noise(environment), alone[1])]
    threads = [threading.Thread(target=visit, args=pair, daemon=True) for pair in visits]
    record = environment.jobs.submit(environment.study(), OWNER)
    for thread in threads:
        thread.start()
    ended = environment.ends(record)
    over.set()
    for thread in threads:
        thread.join()
    if numbers(record) != environment.uninterrupted:
        wrong.append("the numbers of the study changed")
    return ended or "".join(wrong[:1])


def _answers(environment: Environment, record: Record) -> Any:
    from neftune_core.studies.comparison import compare_arms, comparison_request

    return list(compare_arms(*comparison_request(record, PROMPTS), PROMPTS, environment.limits))[-1]


def _looked_at_noise(environment: Environment) -> Any:
    """Read the embeddings as the Noise tab does, with noise on a private tree."""
    import torch

    from neftune_core.models.loading import load, private_tree
    from neftune_core.noise.attach import noisy_embeddings

    loaded, tree = load(environment.model), private_tree(load(environment.model).model)
    ids = torch.tensor([loaded.tokenizer("Say the number 3.")["input_ids"]])
    tree.train()
    with torch.no_grad(), noisy_embeddings(tree, NoiseSettings(strength=5), seed=3):
        return tree(ids.to(loaded.device)).logits.float().cpu().numpy().tobytes()
