"""Videos, frames, masks, class tables, checks, remapping, augmentation and loaders."""
