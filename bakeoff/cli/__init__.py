"""The command line: the only room where results are printed."""
