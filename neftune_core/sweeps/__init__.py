"""Sweeps: many studies from one settings file, and the job queue.

settings    settings that a sweep varies, and its cells
record      folder of a sweep, with one record per cell
sweep       running the cells of a sweep
queue       job queue of the page, for studies and sweeps: submit, stop, resume, discard
more_seeds  more seeds for a finished study or sweep
estimate    estimated duration on this machine
table       effects of every setting, with intervals
on_ray      cells as Ray tasks
transfer    exchange of files between the machines of a cluster
"""
