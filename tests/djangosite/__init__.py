"""The smallest Django site that the Django door can be tried on."""
