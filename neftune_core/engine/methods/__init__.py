"""Methods that people compare with noise on the embeddings: one file each, found by its name `METHOD`.

    method            what an entry declares: its setting, its place in a training step, its words, paper and formula
    registry          all entries by name, and the settings of an arm made from them
    several_passes    training on a clean and on noisy passes together, for methods that compare them

A new file in this folder that defines `METHOD` is offered by TOML files, the command line, the API, links and the page.
"""
