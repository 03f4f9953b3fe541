"""Teaching material.

files           the lessons: Markdown with a preset, and tasks whose conditions the page can check
facts           results of a finished study, as numbers that a task can use
scripts         variants of the common script, and the measurements of a run
snippet         the training script in circulation, run on a copy of a model
faults          five faults of that script, with the damage measured by a pair of runs
recorded_norms  the token norms of one row, as each arm of a record read it in every epoch
"""
