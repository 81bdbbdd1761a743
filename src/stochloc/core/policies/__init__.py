"""Policies: how much SNR each token is given next, and which tokens are taken back."""
