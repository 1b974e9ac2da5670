"""Run the command line as `python -m r2t.cli`."""

from r2t.cli.main import app

app(prog_name="r2t")
