"""From a manifest and its store to batches on a device: frames, order, augmentation."""
