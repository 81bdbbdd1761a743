"""What stands between the embeddings and the readout, one file a backbone."""
