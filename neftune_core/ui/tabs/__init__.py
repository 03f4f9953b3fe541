"""One file per tab, with the files that only this tab uses."""
