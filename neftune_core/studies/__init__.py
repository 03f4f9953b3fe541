"""One study from its settings to its verdict. Read in this order:

settings     what a study is, and the presets to begin with
study        the loop over seeds, with its record: begun, interrupted, resumed, answered
  planning     memory and time on this machine, and what would fit
  pacing       the pace of the last steps, which later estimates follow
  checkpoint   a run on disk after a whole step, restored bit for bit
  measuring    what is measured once, when a seed ends
  rounding     how far the number format alone moves what is measured
  prompts      what is answered when a seed ends
  about        what a record keeps of model, data and machine
judging      from a record to the verdict
results      the table of a study: the same seeds in every row
jobs         who runs when: the queue, its worker, stop, resume, discard
comparison   answers of the base and the arms of records, side by side
votes        blind votes between two columns
tracking     the numbers of a study in a tracker
records      what is kept on disk
"""
