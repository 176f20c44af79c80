"""A model folder, put together from networks and checked."""
