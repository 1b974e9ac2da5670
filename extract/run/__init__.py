"""A run of an extraction: on this machine or on a Dask cluster."""
