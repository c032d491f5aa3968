"""Terms of the loss, a file each."""
