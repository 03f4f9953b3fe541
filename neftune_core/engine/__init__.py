"""From a batch of rows to one step of every arm. Read in this order:

settings         how arms are trained
armset           what every set of arms can do
  stack            stacked LoRA adapters over one frozen base
  copies           full copies of the weights, one per arm
  saving           one arm as a folder in the PEFT format
methods          the set of arms that the settings ask for
lockstep         the loop: all arms on the same batch, as a generator of events
  passes           the passes of one step: plain, symmetric pairs, adversarial
  loss             the loss of every arm, head and loss in pieces
  scheduled_noise  the noise of every arm, step by step
  optimizer        one AdamW step of all arms, each clipped and decayed by itself
clean_loss       loss and accuracy with noise off, row by row
accelerator      the one lock around the machine's compute
parallel         one study on several processes
"""
