"""The analyzer: access logs in, clients and rules out. The only room of the project where polars lives (`crawlguard[analyze]`)."""
