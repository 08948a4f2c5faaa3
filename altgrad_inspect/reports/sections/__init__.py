"""One file a table: its rows, summarised for people, as a `Section`."""
