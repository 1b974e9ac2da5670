"""Run the command line as `python -m r2t.cli`."""

from r2t.cli.main import app

# Spawned workers import this module again, under another name.
if __name__ == "__main__":
    app(prog_name="r2t")
