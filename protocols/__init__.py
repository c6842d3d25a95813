"""What a lab does: the steps of a protocol and the learning they need."""
