"""Teaching material.

files           the lessons: Markdown with a preset, and tasks whose conditions the page can check
facts           numbers that a task's condition can use, such as results of a finished study
script_variants variants of the common NEFTune script, and the measurements of a run
snippet         the script, run on a copy of a model
faults          five faults of the script, with the damage measured by a pair of runs

assets/docs/contributing.md has the steps to add a lesson.
"""
