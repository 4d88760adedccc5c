"""What is known of the clips' availability, by one store or by many; no media."""
