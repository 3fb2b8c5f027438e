"""The report of a laboratory run."""
