"""The human side: can people tell who is in a captured frame? A study on a local page, and its analysis."""
