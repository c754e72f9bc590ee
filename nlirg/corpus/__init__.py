"""From files to token ids: reading, parsing, chat encoding, packing, profile, order, selection."""
