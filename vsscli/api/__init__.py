"""The library's face: what ``import vsscli`` offers, and nothing that another room needs."""
