"""What is done to a store afterwards: status, verify, repair, pack."""
