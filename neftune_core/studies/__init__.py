"""One study, from settings to verdict. Suggested reading order:

settings     settings of a study, and presets
study        runs the seeds one after another, and resumes an interrupted study
  planning     memory and time on this machine, smaller studies that fit, and measured speed for later estimates
  checkpoint   the state of a run after a completed step, restored bit for bit
  measuring    measures taken once, when a seed ends, with the effect of the number format
  prompts      prompts answered when a seed ends
  metadata     model, data and machine as described in a record
judging      the verdict on a record
results      the results table, with means over the same seeds in every row
comparison   answers of a base model and its trained arms, side by side
votes        blind votes between two columns
language_judge  comparison of two arms' answers by a language model
tracking     metrics logged to a tracker, such as TensorBoard
steering     changes to a running study: keeping the best evaluation, early stopping, stopping one arm
sharing      links to one study, and classes
records      storage on disk
"""
