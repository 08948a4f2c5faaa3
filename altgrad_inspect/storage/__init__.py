"""Where bytes are: readers of byte ranges that notice when a file changes."""
