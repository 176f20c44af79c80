"""Decisions: what to do with a face, which candidate is kept, whether it is the person."""
