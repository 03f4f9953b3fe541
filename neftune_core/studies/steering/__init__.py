"""Changes to a running study, and more epochs for a finished one.

best_arms  best evaluation of every arm, and the folder of its weights
log        events that record the user's changes to a running study
requests   requests to a running study: stop an arm, or change the noise of a live study
changes    applies requests between steps, repeats them in a resumed run, stores the best weights, and stops early
going_on   more epochs for a finished study, in a new record
"""
