"""What is decided while a study trains, or after it has ended.

best_arms  the best evaluation of every arm, and the folder of its weights
best       these weights, stored as the run passes them, and the rule of the early stop
log        events by which a person steered a study
requests   what is asked of a running study: to stop one arm, or to change the noise of a live study
changes    applied between two steps, logged, and repeated by a resumed run
going_on   more epochs for a finished study
"""
