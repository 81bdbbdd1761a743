"""Denoisers and their posteriors: exact, tempered, constrained, padded, guided."""
