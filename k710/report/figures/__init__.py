"""The figures of a report, a file for each of its sections: plain data that a terminal, a page and a machine share."""
