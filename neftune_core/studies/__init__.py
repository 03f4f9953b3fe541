"""One study, from settings to verdict. Suggested reading order:

settings     settings of a study, and presets
study        the loop over seeds, with its record: started, interrupted, resumed, answered
  planning     memory and time on this machine, and smaller studies that fit
  calibration  measured speed, used by later estimates
  checkpoint   the state of a run after a whole step, restored bit for bit
  measuring    measures taken once, when a seed ends
  rounding     effect of the number format on the measures
  prompts      prompts answered when a seed ends
  metadata     model, data and machine as described in a record
judging      from a record to the verdict
results      the table of a study: the same seeds in every row
jobs         the queue, its worker, stop, resume, discard
comparison   answers of the base and the arms of records, side by side
votes        blind votes between two columns
language_judge  a language model of the user's choice compares the answers of two arms
tracking     metrics of a study in a tracker
steering     changes to a running study: keeping the best evaluation, early stopping, stopping one arm
sharing      links to one study, and classes
records      storage on disk
"""
