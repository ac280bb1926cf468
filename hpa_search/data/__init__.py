"""Images and labels: reading, packing, splitting, sampling, augmenting."""
