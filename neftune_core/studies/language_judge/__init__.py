"""Compare the answers of two arms with a language model as judge.

endpoint    an OpenAI-compatible endpoint: allowed addresses, requests, retries and replies
verdicts    verdicts on stored answers, which are compared in both orders, and their export as a file
win_rate    the share of preferred answers, raw and controlled for length
"""
