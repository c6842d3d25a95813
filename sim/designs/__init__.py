"""Camera designs: modules whose learnable parameters are hardware settings."""
