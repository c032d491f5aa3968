"""Small streets drawn by program, for when no real video is at hand."""
