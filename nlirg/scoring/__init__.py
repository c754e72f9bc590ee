"""What one forward pass says of a corpus: losses, entropies, scores, suspicious spans."""
