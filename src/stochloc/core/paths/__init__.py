"""Paths through SNR space: which token becomes certain when."""
