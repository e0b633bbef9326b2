"""Pages and pictures: values in, files out."""
