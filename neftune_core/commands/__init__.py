"""The subcommands of `neftune`, grouped by subject."""
