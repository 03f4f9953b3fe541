"""`python -m neftune_core` runs the `neftune` command."""

from neftune_core.cli import main

main()
