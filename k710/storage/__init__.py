"""Where bytes are: places on disk and at URLs, copies, downloads."""
