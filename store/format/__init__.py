"""Format version 1: everything that another language would have to re-implement."""
