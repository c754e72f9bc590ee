"""Labels of tokens."""

from __future__ import annotations

IGNORE = -100  # label of a token that is not trained
