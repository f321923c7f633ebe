"""From a source to batches on the device: sources, splits, preparation, augmentation, batches."""
