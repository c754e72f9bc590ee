"""From files to token ids: reading, chat encoding, token files, packing, order, selection."""
