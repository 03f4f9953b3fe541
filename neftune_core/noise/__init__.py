"""Embedding noise. Read in this order:

kinds         the kinds of noise and their unit draws
strength      conversion of a strength to a standard deviation
schedules     how the strength changes over a run
settings      noise settings and their names
  names         readable names of arms
sites         where noise can be added to a model
batch         the noise of one training batch for all arms, in the lab's own engine
attach        noise for any model in any training loop, after a check that it changes the output
  hooks         forward calls: their sites, real tokens, packed documents, prompt and response
preview       statistics that the browser draws on the Noise tab
  nearest       the vocabulary token nearest to each noisy vector

assets/docs/contributing.md explains how to add a kind of noise.
"""
