"""Readers of files and hub data sets; Parquet, compressed and hub data are read in a process with limits."""
