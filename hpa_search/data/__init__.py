"""Images and labels: reading, making, packing, splitting, augmenting."""
