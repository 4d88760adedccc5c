"""Which datasets exist, and what is known of each."""
