"""A language model of the user's choice compares the answers of two arms.

endpoint    an OpenAI-compatible endpoint: which addresses are allowed, requests, retries, replies
verdicts    judging stored answers in both orders, and the verdicts of a record
table       verdicts and win rates as a file
win_rate    the share of answers preferred, raw and controlled for length
"""
