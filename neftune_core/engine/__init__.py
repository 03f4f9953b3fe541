"""The training engine, from a batch of rows to one optimizer step of every arm.

The modules, in reading order:

settings         training settings, and the steps, learning rates and evaluations derived from them
armset           the interface of every set of arms
  stack            stacked LoRA adapters over one frozen base
  saving           one arm as a folder in the PEFT or transformers format
arm_factory      full copies of the weights, one per arm, and the choice between both sets of arms
lockstep         the training loop, which trains all arms on the same batches and yields events
  passes           the passes of one step: plain, symmetric pairs or adversarial
  loss             the loss of every arm, computed in chunks
  scheduled_noise  the noise of every arm at every step
  optimizer        one AdamW step of all arms, with clipping and weight decay per arm
clean_loss       loss and accuracy without noise
  row_measures     loss and accuracy per arm and row, in the format of records
graphs           layers run as CUDA graphs
parallel         one study across several processes
methods          methods that are compared with noise, one file each
"""
