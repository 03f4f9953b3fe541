"""Models, and the capabilities of this machine. Suggested reading order:

settings          source, precision and device
cards             the catalogue of known models, read before anything is downloaded
estimates         memory and time of a study on this machine
  device            devices, precisions and free memory
  stopwatch         times of short computations on a busy machine
loading           load a model by its source, and cache the models used last
  sources           hub or mirror, ModelScope, folder, GGUF, package index
  checks            checks on the folder before its weights are read
  tokenizing        the tokenizer, adapted to the model
  architecture      the components of a model, and trial runs before it is used
token_text        text of tokens
accelerator       a lock that shares the machine's compute
threads           how OpenMP threads wait, and how many a study uses
silence_warnings  workarounds for transformers
"""
