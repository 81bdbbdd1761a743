"""Training a localization model: which γ to train on, the objective, the loop and its state."""
