"""A study from its settings to its record: the lockstep loop, its events, records on disk, jobs and their queue.

Read in this order: `settings` (what a study is), `lockstep` (the loop), `record` (what is kept), `study` (the two
together), `jobs` (who runs when).
"""
