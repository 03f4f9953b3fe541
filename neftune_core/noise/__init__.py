"""Embedding noise. Read in this order:

kinds         the unit draw of each kind
strength      a strength in its unit as a standard deviation
schedules     how the strength changes over a run
settings      one noise setting, with its name (names: the same in words)
sites         where a model can get noise
batch         the noise of one training batch for all arms, in the lab's own engine
attach        noise on any live model
  hooks         which site a forward call has reached
  call_reader   real tokens, documents, prompt and response of a call
  live          the draws of a call
  probe         whether noise changes the output at all
preview       numbers from which the browser draws the Noise tab
  nearest       the token nearest to each noisy vector
"""
