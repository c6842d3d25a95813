"""A captured set in the formats of others."""
