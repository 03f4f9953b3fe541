"""All measures, with their names, definitions and directions.

assets/docs/evidence.md has the sources of the formulas.
"""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.evaluation.overlap import bleu_score, chrf_score
from neftune_core.evaluation.statistics import Score, mean_score

LOSS, TEXT, MEMORY, LENGTH, ROBUST = "Loss and accuracy", "Text", "Memorisation", "Length", "Robustness"


@dataclass(frozen=True)
class Measure:
    """Definition of a measure.

    Attributes:
        label: Column heading.
        phrase: Name of the measure inside a sentence.
        group: Group in which the measure is listed.
        words: Definition, with range and unit.
        better: 1 if higher is better, -1 if lower is better, 0 if neither direction is better in itself.
        top: Maximum of a measure with a range from 0 to `top`; None for other measures.
        score: Maps summed example statistics to the measure.
        every_epoch: Whether the measure is computed row by row at every evaluation, and is therefore known at the best
            epoch. Other measures are computed after the last epoch of a seed.
    """

    label: str
    phrase: str
    group: str
    words: str
    better: int = 0
    top: float | None = None
    score: Score = mean_score
    every_epoch: bool = False

    @property
    def of_answers(self) -> bool:
        """Whether the measure is computed from generated answers."""
        return self.group in (TEXT, MEMORY, LENGTH)


_PREFIX_NOTE = "Only the first 50 tokens of each answer count; shorter answers are left out."

MEASURES: dict[str, Measure] = {
    "held_out_loss": Measure(
        "Held-out loss",
        "held-out loss",
        LOSS,
        "Minus the mean log probability of the response tokens of held-out rows, in nats per token (end-of-"
        "sequence included), with noise and dropout off. All tokens of the sample have equal weight.",
        better=-1,
        every_epoch=True,
    ),
    "accuracy": Measure(
        "Correct tokens",
        "the share of correct tokens",
        LOSS,
        "The share of held-out response tokens that are the most probable token given the true tokens before them "
        "(teacher forcing).",
        better=1,
        top=1.0,
        every_epoch=True,
    ),
    "exact": Measure(
        "Exact answers",
        "the share of exact answers",
        LOSS,
        "The share of held-out rows in which every response token is the most probable one, so that greedy "
        "decoding would give the reference token by token.",
        better=1,
        top=1.0,
        every_epoch=True,
    ),
    "train_loss": Measure(
        "Training loss, noise off",
        "training loss with noise off",
        LOSS,
        "The loss on rows that were trained on, with noise and dropout off.",
        every_epoch=True,
    ),
    "gap": Measure(
        "Gap",
        "held-out loss minus training loss",
        LOSS,
        "Held-out loss minus training loss, both with noise off: a measure of overfitting.",
        every_epoch=True,
    ),
    "perplexity": Measure("Perplexity", "perplexity", LOSS, "exp(held-out loss).", better=-1, every_epoch=True),
    "noise_penalty": Measure(
        "Noise penalty",
        "the increase in training loss under the arm's own noise",
        LOSS,
        "The loss on training rows with the arm's own noise (its kind, strength and sites, no schedule; one draw "
        "per row) minus the loss without noise, at the same weights, after the last epoch. 0 for arms without "
        "noise.",
    ),
    "right": Measure(
        "Correct answers",
        "the share of correct answers",
        TEXT,
        "The mean score of greedy answers to held-out prompts: 1 if answer and reference are equal except for "
        "case, spacing and final punctuation. In the bundled world, answers are compared with the true answer, and"
        " a story scores the mean of the share of required things that it names and the share of its sentences "
        "that are well formed.",
        better=1,
        top=1.0,
    ),
    "bleu": Measure(
        "BLEU",
        "BLEU",
        TEXT,
        "0 to 100. b · exp(¼ Σ ln p_n) with the precision p_n of n-grams in percent, n = 1..4; b = min(1, exp(1 − "
        "r/c)) with the total lengths r of the references and c of the answers. All answers are scored as one corpus, "
        "with sacrebleu. 0 if no answer has four tokens.",
        better=1,
        top=100.0,
        score=bleu_score,
    ),
    "chrf": Measure(
        "chrF",
        "chrF",
        TEXT,
        "0 to 100. 5PR / (4P + R) with the mean precision P and recall R of character n-grams, n = 1..6. All answers "
        "are scored as one corpus, with sacrebleu.",
        better=1,
        top=100.0,
        score=chrf_score,
    ),
    "rouge_l": Measure(
        "ROUGE-L",
        "ROUGE-L",
        TEXT,
        "0 to 1. 2RP / (R + P) with R = LCS / length of the reference and P = LCS / length of the answer; LCS is the "
        "length of the longest common subsequence. Lengths are in words (in characters for scripts without spaces). "
        "Mean over answers.",
        better=1,
        top=1.0,
    ),
    "memorised_rouge_l": Measure(
        "ROUGE-L, training prompts",
        "ROUGE-L with the training responses",
        MEMORY,
        "ROUGE-L between greedy answers to training prompts and their training responses.",
        top=1.0,
    ),
    "memorised_run": Measure(
        "Longest run, training prompts",
        "the longest run shared with the training response",
        MEMORY,
        "The number of words in the longest contiguous run that the answer to a training prompt shares with its "
        "training response.",
    ),
    "memorised_run_share": Measure(
        "Longest run, share of response",
        "the share of the training response covered by the longest shared run",
        MEMORY,
        "The longest reproduced run, as a share of the words of the training response.",
        top=1.0,
    ),
    "tokens": Measure(
        "Tokens, mean",
        "length in tokens",
        LENGTH,
        "The mean number of tokens of an answer to a held-out prompt, without the end-of-sequence token.",
    ),
    "median_tokens": Measure(
        "Tokens, median",
        "the median length in tokens",
        LENGTH,
        "The median number of tokens of an answer to a held-out prompt.",
    ),
    "characters": Measure(
        "Characters, mean",
        "length in characters",
        LENGTH,
        "The mean number of characters of an answer to a held-out prompt.",
    ),
    "median_characters": Measure(
        "Characters, median",
        "the median length in characters",
        LENGTH,
        "The median number of characters of an answer to a held-out prompt.",
    ),
    "stop_rate": Measure(
        "Ended by itself",
        "the share of answers that the model ended",
        LENGTH,
        "The share of answers to held-out prompts in which the model generated an end token before the maximum length.",
        top=1.0,
    ),
    "repetition": Measure(
        "rep-2",
        "the share of repeated n-grams",
        LENGTH,
        "1 minus the share of distinct pairs among all pairs of neighbouring tokens, averaged over answers. "
        + _PREFIX_NOTE,
        top=1.0,
    ),
    "distinct": Measure(
        "distinct-2",
        "the share of distinct n-grams",
        LENGTH,
        "The share of distinct pairs among all pairs of neighbouring tokens of all answers together. " + _PREFIX_NOTE,
        top=1.0,
    ),
    "noise_loss": Measure(
        "Loss under noise",
        "held-out loss under noise",
        ROBUST,
        "Held-out loss with Gaussian noise on every token's embedding, as strong as the embeddings themselves "
        "(relative 1: standard deviation = root mean square coordinate). The figure shows other strengths. There is "
        "one draw per row, the same for every arm.",
        better=-1,
    ),
    "noise_accuracy": Measure(
        "Correct tokens under noise",
        "the share of correct tokens under noise",
        ROBUST,
        "The share of correct held-out tokens under the same noise as “Loss under noise”.",
        better=1,
        top=1.0,
    ),
    "typos_loss": Measure(
        "Loss under typing errors",
        "held-out loss under typing errors",
        ROBUST,
        "Held-out loss when one letter in ten of the user's messages is swapped with the next one, left out, "
        "doubled or replaced by another; the errors are the same for every arm, and the reference is unchanged.",
        better=-1,
    ),
    "typos_accuracy": Measure(
        "Correct tokens under typing errors",
        "the share of correct tokens under typing errors",
        ROBUST,
        "The share of correct held-out tokens with the same typing errors as “Loss under typing errors”.",
        better=1,
        top=1.0,
    ),
}

EVERY_EPOCH = tuple(name for name, measure in MEASURES.items() if measure.every_epoch)
FIRST = ("held_out_loss", "exact", "right", "train_loss")
"""Measures that the page shows at once beside the measure asked for."""
BESIDE = ("held_out_loss", "accuracy", "exact", "right", "bleu", "rouge_l", "tokens")
"""Measures that the table of a sweep lists beside the chosen measure, as means after the last epoch."""
