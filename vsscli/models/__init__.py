"""Networks, their scores, and checkpoints."""
