"""One trial as an ordinary PyTorch program."""
