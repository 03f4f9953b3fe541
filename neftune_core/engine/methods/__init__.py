"""Methods to compare with embedding noise, one file each.

    method            the declaration of a method: setting, place in a training step, name, paper and formula
    registry          all methods by name, and the settings of an arm built from them
    several_passes    training on a clean pass and noisy passes together

To add a method, add a file that defines `METHOD`. It is then available in TOML files, the command line, the API, links
and the page. assets/docs/contributing.md has all steps.
"""
