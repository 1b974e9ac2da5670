"""Where a store's bytes are: on this machine, in a zip, behind a URL."""
