"""Methods that are compared with embedding noise, one file each.

    method            the declaration of a method: name, setting, formula, paper, and functions in the training step
    registry          all methods by name, and the settings of an arm built from them
    several_passes    training on a clean pass and noisy passes at once

To add a method, add a file that defines `METHOD`. It is then available in TOML files, the command line, the API, links
and the page. See assets/docs/contributing.md for all steps.
"""
