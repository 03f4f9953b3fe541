"""Many studies from one file.

settings    axes of a sweep, and its cells
record      folder of a sweep, with one record per cell
sweep       run of one cell after another
queue       studies and sweeps in one queue of jobs
more_seeds  more seeds for a finished study or sweep
estimate    duration on this machine
table       effects of every setting, with intervals
on_ray      cells as tasks of Ray
transfer    files sent between its machines
"""
