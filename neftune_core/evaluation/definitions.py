"""Labels and definitions of all measures; assets/docs/evidence.md has the sources."""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.evaluation.outcomes import MEASURES


@dataclass(frozen=True)
class Definition:
    """Label, group and definition of one measure.

    Attributes:
        label: Column heading.
        group: Group of measures it is listed in.
        words: Exact definition.
    """

    label: str
    group: str
    words: str


LOSS, TEXT, MEMORY, LENGTH, ROBUST = "Loss and accuracy", "Text", "Memorisation", "Length", "Robustness"

_SAME_PREFIX = "over the first 50 tokens of the answers that are at least that long"

DEFINITIONS: dict[str, Definition] = {
    "held_out_loss": Definition(
        "Held-out loss",
        LOSS,
        "Minus the mean log probability of the response tokens of held-out rows, in nats per token "
        "(end-of-sequence included), with noise and dropout off. All tokens of the sample have equal weight.",
    ),
    "accuracy": Definition(
        "Correct tokens",
        LOSS,
        "The share of held-out response tokens that are the most probable token given the true tokens before "
        "them (teacher forcing).",
    ),
    "exact": Definition(
        "Exact answers",
        LOSS,
        "The share of held-out rows in which every response token is the most probable one, so that greedy "
        "decoding would give the reference token by token.",
    ),
    "train_loss": Definition(
        "Training loss, noise off", LOSS, "The loss on rows that were trained on, with noise and dropout off."
    ),
    "gap": Definition("Gap", LOSS, "Held-out loss minus training loss, both with noise off: a measure of overfitting."),
    "perplexity": Definition("Perplexity", LOSS, "exp(held-out loss)."),
    "noise_penalty": Definition(
        "Noise penalty",
        LOSS,
        "The loss on training rows with the arm's own noise (its kind, strength and sites, no schedule; one draw "
        "per row) minus the loss without noise, at the same weights, after the last epoch. 0 for arms without "
        "noise.",
    ),
    "right": Definition(
        "Correct answers",
        TEXT,
        "The mean score of greedy answers to held-out prompts: 1 if answer and reference are equal except for "
        "case, spacing and final punctuation. In the bundled world, answers are compared with the true answer, "
        "and a story scores the mean of the share of required things that it names and the share of its "
        "sentences that are well formed.",
    ),
    "bleu": Definition(
        "BLEU",
        TEXT,
        "0 to 100. b · exp(¼ Σ ln p_n), n = 1..4, of all answers as one corpus; b = min(1, exp(1 − r/c)) with "
        "the lengths r of references and c of answers; sacrebleu. 0 if no answer has four tokens.",
    ),
    "chrf": Definition(
        "chrF",
        TEXT,
        "0 to 100. 5PR / (4P + R) with the mean precision P and recall R of character n-grams, n = 1..6, of all "
        "answers as one corpus; sacrebleu.",
    ),
    "rouge_l": Definition(
        "ROUGE-L",
        TEXT,
        "0 to 1. 2RP / (R + P) with R = LCS / reference and P = LCS / answer; LCS is the longest common subsequence of "
        "words (characters in scripts without spaces). Mean over answers.",
    ),
    "memorised_rouge_l": Definition(
        "ROUGE-L, training prompts",
        MEMORY,
        "ROUGE-L between greedy answers to training prompts and their training responses.",
    ),
    "memorised_run": Definition(
        "Longest run, training prompts",
        MEMORY,
        "Words in the longest run without gaps that the answer to a training prompt shares with its training response.",
    ),
    "memorised_run_share": Definition(
        "Longest run, share of response", MEMORY, "That run as a share of the words of the training response."
    ),
    "tokens": Definition("Tokens, mean", LENGTH, "Tokens of an answer to a held-out prompt, without the ending one."),
    "median_tokens": Definition("Tokens, median", LENGTH, "The median over the same answers."),
    "characters": Definition("Characters, mean", LENGTH, "Characters of an answer to a held-out prompt."),
    "median_characters": Definition("Characters, median", LENGTH, "The median over the same answers."),
    "stop_rate": Definition(
        "Ended by itself", LENGTH, "The share of these answers that the model ended before the maximum length."
    ),
    "repetition": Definition(
        "rep-2", LENGTH, f"1 − distinct / all pairs of neighbouring tokens, answer by answer, {_SAME_PREFIX}."
    ),
    "distinct": Definition(
        "distinct-2", LENGTH, f"Different / all pairs of neighbouring tokens, all answers together, {_SAME_PREFIX}."
    ),
    "noise_loss": Definition(
        "Loss under noise",
        ROBUST,
        "Held-out loss with Gaussian noise on every token's embedding, as strong as the embeddings themselves "
        "(relative 1: standard deviation = root mean square coordinate). The figure has other strengths; one "
        "draw per row, the same for every arm.",
    ),
    "noise_accuracy": Definition(
        "Correct tokens under noise", ROBUST, "The share of correct held-out tokens under the same noise."
    ),
    "typos_loss": Definition(
        "Loss with typing errors",
        ROBUST,
        "Held-out loss when one letter in ten of the user's messages is swapped with the next one, left out, "
        "doubled or replaced by another; the errors are the same for every arm, and the reference is "
        "unchanged.",
    ),
    "typos_accuracy": Definition(
        "Correct tokens with typing errors", ROBUST, "The share of correct held-out tokens with the same errors."
    ),
}

assert DEFINITIONS.keys() == MEASURES.keys()
