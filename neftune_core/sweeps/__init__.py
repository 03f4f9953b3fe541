"""Many studies from one file.

settings    axes of a sweep, and its cells
record      folder of a sweep, with one record per cell
sweep       running one cell after another
queue       studies and sweeps in one queue of jobs
more_seeds  more seeds for a finished study or sweep
estimate    duration on this machine
table       effects of every setting, with intervals
on_ray      cells as Ray tasks
transfer    files exchanged between the machines of a cluster
"""
