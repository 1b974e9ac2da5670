"""The method: the R² Block, pyramid, heads, losses, and predictions decoded."""
