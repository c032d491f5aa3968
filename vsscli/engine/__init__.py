"""Work that falls into videos, on the cores of this machine or on a cluster, with results in order."""
