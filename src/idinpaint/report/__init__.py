"""What is said of a result: the report, provenance, credentials, pictures to look at."""
