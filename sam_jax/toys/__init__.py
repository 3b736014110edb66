"""Small problems with known answers, on which the compiled core is iterated."""
