"""Teaching material.

files           the lessons: Markdown with a preset, and tasks whose conditions the page can check
facts           results of a finished study, as numbers that a task can use
script_variants variants of the common script, and the measurements of a run
snippet         the training script in circulation, run on a copy of a model
faults          five faults of that script, with the damage measured by a pair of runs
"""
