"""Images in, batches of (image, label) out."""
