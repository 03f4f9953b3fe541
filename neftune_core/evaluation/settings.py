"""How answers are decoded."""

from __future__ import annotations

from pydantic import Field

from neftune_core.settings import Settings, setting


class AnswerSettings(Settings):
    """Prompts and the greedy decoding of their answers."""

    prompts: tuple[str, ...] = Field(
        default=(), description="Prompts answered by the base and by every arm when the training ends."
    )
    system: str = setting("", "An optional system prompt.", max_length=20_000, label="System prompt")
    new_tokens: int = setting(
        96,
        "Longest answer.",
        minimum=1,
        maximum=100_000,
        slider_maximum=512,
        step=8,
        unit="tokens",
        label="Longest answer",
    )
    repetition_penalty: float = setting(
        1.2,
        "Above 1 lowers the score of tokens already seen in the row (the paper decodes with 1.2).",
        minimum=1.0,
        maximum=3.0,
        step=0.05,
        advanced=True,
    )
