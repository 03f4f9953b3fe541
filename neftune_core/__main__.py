"""`python -m neftune_core` is the command `neftune`."""

from neftune_core.cli import main

main()
