"""A small street drawn by program, for when no real video is at hand: canvas, walls, things, choices, street."""
