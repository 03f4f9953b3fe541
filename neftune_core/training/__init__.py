"""A study from its settings to its record. Read in this order; each file is one idea.

settings       what a study is, and presets to begin with
lockstep       the loop: all arms on the same batch, as a generator of events
  scheduled      the noise of every arm, step by step
  passes         the passes of one step: plain, symmetric pairs, adversarial
  adapters       one AdamW step of all arms, each clipped and decayed by itself
  checkpoint     a run on disk after a whole step, and put back bit for bit
study          the loop, seed by seed, with its record: begun, broken off, gone on with, answered
  planning       memory and time on this machine, and what would fit
  measuring      what is measured once, when a seed ends: answers, noise penalty, disturbances borne
  prompts        what is answered when a seed ends
  accelerator    the one lock around the machine's compute, held pass by pass
record         what is kept: a folder, its owner, its one writer
  claims         the lock of its one writer, taken back by the system when that ends
  log            the events in it, readable while they grow and after damage
  own_rows       the files of rows that a study names
  damage         what is missing or broken, in sentences
  disk           removing records, and the sweep of a host
  numbers        what was measured, by seed and by example
judging        from a record to the verdict on it
jobs           who runs when: the queue, its worker, stop, resume, discard
  progress       where a study stands: one state in one word, and the numbers behind it
comparison     answers of the base and the arms of a record
sweep          many studies from one file, one after the other or on a cluster
  on_ray         the studies of a sweep as tasks of Ray
  parcels        what its machines send each other
parallel       one study on several processes, as a launcher starts them
tracking       the numbers of a study in a tracker
sensitivity    the loss of an untouched model under noise
"""
