"""What fetch, training and evaluation would take: small measurements on this machine, and what the user states."""
