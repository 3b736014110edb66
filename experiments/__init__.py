"""One file a figure or table; they compose what the library has."""
