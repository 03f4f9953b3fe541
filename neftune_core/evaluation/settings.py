"""How answers are decoded."""

from __future__ import annotations

from pydantic import Field

from neftune_core.errors import DataError, DoesNotFit
from neftune_core.settings import Limits, Settings, setting


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

    def check(self, limits: Limits) -> None:
        """Raise `DoesNotFit` where this is over a limit of this server."""
        if len(self.prompts) > limits.prompts:
            raise DoesNotFit(f"This server answers at most {limits.prompts} prompts at once.")
        longest = max((len(prompt) for prompt in self.prompts), default=0)
        if longest > limits.prompt_characters:
            raise DoesNotFit(f"A prompt may have at most {limits.prompt_characters:,} characters (here: {longest:,}).")
        if self.new_tokens > limits.new_tokens:
            raise DoesNotFit(f"An answer may have at most {limits.new_tokens:,} tokens on this server.")

    def require_prompts(self) -> None:
        """Raise `DataError` where there is nothing to answer."""
        if not any(prompt.strip() for prompt in self.prompts):
            raise DataError("There is no prompt: write one a line.")
