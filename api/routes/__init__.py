"""Routes by subject. Thin: they read the request, ask the engine and shape the answer."""
