"""From encoded samples to token losses: windows, batches, output head, loss, cached prefix."""
