"""Tables to text: a view model (`model`), what fills it, and one pure renderer a format."""
