"""Many studies from one file.

settings    the axes of a sweep, and its cells
record      a sweep's folder, with one record per cell
sweep       cell after cell
queue       studies and sweeps in one queue of jobs
more_seeds  more seeds for a finished study or sweep
estimate    how long it takes on this machine
table       what each setting did, with intervals
on_ray      cells as tasks of Ray
transfer    what its machines send each other
"""
