"""Other ways to land, built to be measured beside ours; nothing of it runs in production."""
