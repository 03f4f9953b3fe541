"""Files and hub data sets to rows, read with limits in a separate process."""
