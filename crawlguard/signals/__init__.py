"""What can be known of a request: pure functions from values and compiled tables to facts. No clock, no files, no framework."""
