"""Training, scoring and sampling many methods in one frame."""
