"""A simulated notification service: deterministic events with a planted truth beside them."""
