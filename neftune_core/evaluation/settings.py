"""Settings for decoding, and for the measurements of a study."""

from __future__ import annotations

from neftune_core.errors import DataError, DoesNotFit
from neftune_core.evaluation.measures import MEASURES
from neftune_core.language import later, plural, say
from neftune_core.settings import Limits, Settings, setting

CUT = later(
    "The beginning of this prompt was cut off, because the prompt and an answer of the maximum length do not fit in "
    "the model's context."
)
"""Note on an answer whose prompt was cut from the left."""


class DecodingSettings(Settings):
    """Settings for greedy or sampled decoding."""

    system: str = setting("", max_length=20_000, label="System prompt")
    """An optional system prompt."""
    new_tokens: int = setting(
        96, minimum=1, maximum=100_000, slider_maximum=512, step=8, unit="tokens", label="Maximum answer length"
    )
    """Maximum length of an answer."""
    repetition_penalty: float = setting(1.2, minimum=1.0, maximum=3.0, step=0.05)
    """Values above 1 lower the score of tokens that the prompt or the answer already contains (the paper decodes with
    1.2)."""
    temperature: float = setting(0.0, minimum=0.0, maximum=5.0, slider_maximum=2.0, step=0.05)
    """0 is greedy: always the most probable token. Above 0, tokens are drawn at random; higher values make rare tokens
    more likely."""
    top_p: float = setting(0.95, minimum=0.01, maximum=1.0, step=0.01, label="Top-p")
    """Tokens are drawn from the most probable ones that together have this probability; 1 allows all tokens. Not used
    for greedy answers."""
    samples: int = setting(1, minimum=1, maximum=64, slider_maximum=8, step=1, label="Answers per prompt")
    """Number of answers drawn for each prompt; always 1 for greedy decoding."""
    sampling_seed: int = setting(0, minimum=0, maximum=2**31 - 1, label="Sampling seed")
    """Random draws depend only on this seed, the prompt and the index of the answer; all arms share them."""

    @property
    def answers_each(self) -> int:
        """Number of answers per prompt and arm."""
        return self.samples if self.temperature > 0 else 1


class AnswerSettings(DecodingSettings):
    """Settings for the prompts of a study, and for the decoding of their answers."""

    prompts: tuple[str, ...] = ()
    """Prompts answered by the base and every arm when training ends."""

    def check(self, limits: Limits) -> None:
        """Check the settings against the limits of this server.

        Raises:
            DoesNotFit: If a limit is exceeded.
        """
        answers = len(self.prompts) * self.answers_each
        if answers > limits.prompts:
            words = plural(
                limits.prompts,
                "This server generates at most {most} answer at once (requested: {answers:,}).",
                "This server generates at most {most} answers at once (requested: {answers:,}).",
            )
            raise DoesNotFit(say(words, most=limits.prompts, answers=answers))
        longest = max((len(prompt) for prompt in self.prompts), default=0)
        if longest > limits.prompt_characters:
            raise DoesNotFit(
                say(
                    "A prompt may have at most {most:,} characters (here: {longest:,}).",
                    most=limits.prompt_characters,
                    longest=longest,
                )
            )
        if self.new_tokens > limits.new_tokens:
            raise DoesNotFit(say("An answer may have at most {most:,} tokens on this server.", most=limits.new_tokens))

    def require_prompts(self) -> None:
        """Check that there is a prompt.

        Raises:
            DataError: If all prompts are blank.
        """
        if not any(prompt.strip() for prompt in self.prompts):
            raise DataError(say("There is no prompt: write one per line."))


AUTOMATIC = "automatic"
EPOCH_WORDS = {"last": "The last epoch", "best": "The best epoch (chosen on other rows)"}


class MeasuringSettings(Settings):
    """Settings of a study's measurements, including the question of its verdict, which is fixed before the run."""

    primary: str = setting(
        AUTOMATIC,
        choices={AUTOMATIC: "Automatic", **{name: found.label for name, found in MEASURES.items()}},
        label="The question: measure",
    )
    """The one measure that the verdict tests; all others are descriptive. Automatic uses exact answers if the data has
    known answers, otherwise held-out loss, or training loss if no rows are held out."""
    epoch: str = setting("last", choices=EPOCH_WORDS, label="The question: epoch")
    """The epoch (last or best) at which the verdict compares the measure; the values at both are always shown."""
    prompts: int = setting(
        16, minimum=0, maximum=10_000, slider_maximum=128, step=1, unit="prompts", label="Answers measured"
    )
    """Number of held-out prompts, and of training prompts, that are answered after each seed is trained, for text
    measures, length and memorisation. 0 skips these measures."""
    new_tokens: int = setting(
        64, minimum=1, maximum=100_000, slider_maximum=512, step=8, unit="tokens", label="Maximum measured length"
    )
    """Maximum length of a measured answer."""
    robustness: bool = setting(True)
    """After each seed is trained, measure the held-out loss under embedding noise and under typing errors in the
    prompt."""
    chaos: bool = setting(False, label="Floor: chaos")
    """Train one more arm, with noise of alpha 0.01, to show how far two runs diverge through rounding and chance
    alone."""
    another_seed: bool = setting(False, label="Floor: control against control")
    """Train the control again with the same number of other seeds (A/A), to show what a comparison without any real
    difference looks like."""

    def check(self, limits: Limits) -> None:
        """Check the settings against the limits of this server.

        Raises:
            DoesNotFit: If a limit is exceeded.
        """
        if self.prompts > limits.prompts:
            words = plural(
                limits.prompts,
                "This server measures at most {most} answer per arm.",
                "This server measures at most {most} answers per arm.",
            )
            raise DoesNotFit(say(words, most=limits.prompts))
        if self.new_tokens > limits.new_tokens:
            raise DoesNotFit(
                say("A measured answer may have at most {most:,} tokens on this server.", most=limits.new_tokens)
            )
