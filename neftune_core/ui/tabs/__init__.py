"""One file per tab, with the files that only this tab uses; `views` has the views inside the tabs."""
