"""Changes to a study while it trains, and more epochs after it has finished.

best_arms  the best evaluation of every arm, and the folder of its weights
best       storing these weights during a run, and early stopping
log        events that record what a person changed in a running study
requests   requests to a running study: stop one arm, or change the noise of a live study
changes    applying requests between two steps, logging them, and repeating them in a resumed run
going_on   more epochs for a finished study
"""
