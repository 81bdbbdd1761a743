"""What people ask for: train, evaluate, generate, the paper's cyclic experiment, a first look."""
