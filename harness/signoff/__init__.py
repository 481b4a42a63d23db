"""Release sign-off: signed statements about what was built, and their verification."""
