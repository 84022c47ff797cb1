"""Features, training, evaluation, serving and monitoring of models."""
