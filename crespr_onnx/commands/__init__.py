"""The commands of the command line, one per file. Importing them imports nothing heavy."""
