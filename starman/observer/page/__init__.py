"""The page of the admin HTTP, which shows a server while it runs: the file that browsers get, and its events."""
