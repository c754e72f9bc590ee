"""Drop and order scored rows."""
