"""Events that were refused: looked at, mended, and sent again, each once."""
