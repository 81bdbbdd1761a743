"""What the commands do: train, evaluate, generate, score, infill, correct, compare and more."""
