"""What a run says on stderr: how lines are written, what is hidden in them, and the summaries."""
