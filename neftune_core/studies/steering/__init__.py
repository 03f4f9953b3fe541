"""What is decided while a study trains, or after it has ended.

best     the weights of every arm's best evaluation, and the rule of the early stop
"""
