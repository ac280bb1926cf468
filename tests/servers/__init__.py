"""Real servers that tests start for themselves and end: PostgreSQL, and one that speaks S3."""
