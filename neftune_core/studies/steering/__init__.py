"""Changes to a running study, and more epochs for a finished one.

best_arms  best evaluation of every arm, and the folder of its weights
log        events that record a person's changes to a running study
requests   requests to a running study: stop an arm, or change the noise of a live study
changes    application and logging of requests between two steps, their repetition in a resumed run, storage of the best
           weights, and early stopping
going_on   more epochs for a finished study, in a new record
"""
