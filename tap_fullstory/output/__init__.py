"""Output: messages on stdout, and the files of BATCH messages."""
