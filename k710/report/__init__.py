"""Pictures and pages: what a manifest, its media and its training runs come to, on a terminal and as one HTML file."""
