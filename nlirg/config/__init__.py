"""The recipe's sections of corpus and training, checked when they are read."""
