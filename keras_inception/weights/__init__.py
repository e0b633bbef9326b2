"""Public checkpoints: how they are read, what their tensors are called, and where they are published."""
