"""Labels as other programs hold them: a file for each format, and what these share."""
