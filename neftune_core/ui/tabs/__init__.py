"""The tabs, one module each, with helper modules; `views` contains the views inside the tabs."""
