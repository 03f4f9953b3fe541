"""Measurement with noise off: answers of the base and all arms, measures, statistics and the verdict.

Two modules measure the noise itself: `sensitivity` (the loss under noise) and `noise_propagation` (its effect on every
layer and on the next token). Suggested reading order of the others:

settings            decoding, and what a study measures
measures            all measures: names, definition, direction, range
answers             answers of the base and all arms from one batched decode (kv_prefill: prompts and cache)
text_measures       measures of answers (overlap: BLEU, chrF and ROUGE-L)
outcomes            the results of a study as plain numbers, and its question
paired_comparison   an arm compared with its control (statistics: intervals and tests)
validity            reasons why an arm cannot be judged
verdict             the judgement (verdict_words: its sentences)

assets/docs/contributing.md explains how to add a measure.
"""
