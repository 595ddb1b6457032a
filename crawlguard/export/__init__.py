"""What a policy writes and reads of the documents by which a site states its will: robots.txt and its neighbours. Values in, values out."""
