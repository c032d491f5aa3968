"""Models and stores as objects, for Python users; no other room needs them."""
