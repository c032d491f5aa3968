"""A pipeline, stage by stage: what decides each, what is done already, what to run, and what it would cost."""
