"""What the commands have in common: how they are put together, and the options they share."""
