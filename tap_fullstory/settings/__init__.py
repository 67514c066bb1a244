"""The settings: the table of them, and what each may be."""
