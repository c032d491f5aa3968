"""Semi-supervised video semantic segmentation: run the network once, decide many times."""

__version__ = "0.1.0"
