"""What an Analysis looks like: on a terminal, as one HTML page, as a mail, as files. Each view is a function of the Analysis and no more."""
