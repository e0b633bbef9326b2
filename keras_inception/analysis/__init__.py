"""What a trained network looks at, and why."""
