"""`r2t store`: look into feature stores and look after them."""
