"""Events over HTTP: from a request's body to acknowledged records on the topic, each once."""
