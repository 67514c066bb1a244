"""Columns: their types and names, those that settings add, and what never leaves in them."""
