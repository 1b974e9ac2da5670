"""The command line: the only part that knows a terminal, a page or a person."""
