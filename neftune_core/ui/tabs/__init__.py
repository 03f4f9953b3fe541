"""The tabs, one module each, with helper modules; `views` has the views inside the tabs."""
