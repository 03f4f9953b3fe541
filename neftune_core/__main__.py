"""Run the `neftune` command with `python -m neftune_core`."""

from neftune_core.cli import main

main()
