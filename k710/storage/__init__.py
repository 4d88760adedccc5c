"""Files on this machine and at URLs: locations, copies, downloads."""
