"""Instruction data, from a source to batches. Read in this order:

settings         which rows are used, and how
sources          a starter set, file or hub data set as examples
  formats          the rows of files and hub data sets
  layouts          conversion of columns to messages
  conversations    message formats, and fields that change the meaning of a row
  examples         one example, and rows that cannot be used
report           how every row was read
preparing        removal of duplicates, split, tokenisation
  rendering        messages with the model's chat template
    template_fields  the fields that a template renders besides message text
    plain_text       the template of tokenizers that have none
  chat             tokens, and which of them are trained
  pairs            source and target of an encoder-decoder
  fitting          prompts shortened to fit the context
batches          order of an epoch, and padded tensors
"""
