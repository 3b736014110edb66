"""What is done with finished runs: read again, gone on from, measured, attacked."""
