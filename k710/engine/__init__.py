"""Who works: units of work in threads, processes, on a Ray cluster."""
