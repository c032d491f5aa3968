"""Projects: from a folder of clips and labels to recipes that fit them and the machine."""
