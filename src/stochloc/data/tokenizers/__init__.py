"""How text becomes tokens, one file a tokenizer."""
