"""Networks, what their scores mean, and the checkpoints that keep them."""
