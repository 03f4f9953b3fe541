"""What teaches. Each file is one idea.

files     the lessons: Markdown with a preset and tasks whose conditions the page can check
facts     what a finished study shows, as numbers that a task may ask for
scripts   one way of writing the common script, and what a run of it has measured
snippet   the training script that is passed around, run for real on its own copy of a model
faults    five faults of that script, one entry each, and the damage that a pair of runs has measured
seen      what the arms of a record read of one row, epoch by epoch
"""
