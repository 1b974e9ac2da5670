"""`r2t store`: inspect and maintain feature stores."""
