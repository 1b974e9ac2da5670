"""What a run is: its settings, its files, its records."""
