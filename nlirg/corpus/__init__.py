"""From files to token ids: reading, parsing, chat encoding, token files, packing, profile, order, selection."""
