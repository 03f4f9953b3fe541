"""Files and hub data sets to rows, read with limits in a process of their own."""
