"""Instruction data, from a source to batches. Read in this order:

settings         which rows are used, and how
sources          a starter set, file or hub data set as examples
  formats          files and hub data sets to rows, in a separate process
  layouts          columns as messages
  conversations    message formats, and fields that change the meaning of a row
  examples         one row, and rows that could not become one
report           how every row was read
preparing        removal of duplicates, split, tokenisation
  rendering        messages with the model's chat template
    template_fields  what a template renders besides text
    plain_text       the template of tokenizers that have none
  chat             tokens, and which of them are trained
  pairs            source and target of an encoder-decoder
  fitting          prompts shortened to fit the context
batches          order of an epoch, and padded tensors
"""
