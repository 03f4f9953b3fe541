"""Teaching material.

files           lesson files: Markdown with a preset and tasks, each with a condition on the page's state or on numbers
                such as the results of a finished study
faults          five faults of a common NEFTune script, and the damage measured by two runs
snippet         the script, run on a copy of a model

assets/docs/contributing.md describes how to add a lesson.
"""
