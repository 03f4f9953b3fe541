"""Instruction data, from source to batches. The modules, in reading order:

settings         selection and processing of rows
sources          a starter set, file or hub data set as examples
  formats          the rows of files and hub data sets
  layouts          conversion of columns to messages
  conversations    message formats, and fields that change the meaning of a row
  examples         one example, and rows that cannot be used
report           report on how each row was read
preparing        removal of duplicates, split, tokenisation
  rendering        messages with the model's chat template
    escaping       escapes special tokens in text
  chat             tokens, and the mask of trained tokens
  encoder_decoder  source and target of an encoder-decoder
  fitting          shortens prompts to fit the context
batches          order of an epoch, and padded tensors
"""
