"""Running pipelines: the key of each stage, what is done already, what to run, and what it would cost."""
