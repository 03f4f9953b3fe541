"""Models and this machine. Read in this order:

settings          source, precision and device
cards             known models, read before anything is downloaded
catalogue         memory and time of a study on this machine
  time_calibration  measured speed, stored
  device            devices, precisions and free memory
loading           a model by its source, once per process
  sources           hub, mirror, folder, GGUF, package index
  checks            the folder before its weights are read
  tokenizing        the tokenizer, adapted to the model
  architecture      the parts of a model, and trials before admission
token_text        text of tokens
accelerator       the lock around the compute, and threads: how OpenMP threads wait
silence_warnings  workarounds for transformers
"""
