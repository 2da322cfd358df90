"""Files of examples -> clean, unleaking splits: readers, detectors, a report, splitting and augmentation."""
