"""What is known of a face: found, aligned, read, compared."""
