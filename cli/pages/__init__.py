"""The pages that r2t shows in a browser: reports, and `r2t serve`."""
