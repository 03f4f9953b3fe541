"""What is decided while a study trains, or after it has ended.

requests what is asked of a running study: to stop one arm
changes  applied between two steps, logged, and repeated by a resumed run
best     the weights of every arm's best evaluation, and the rule of the early stop
"""
