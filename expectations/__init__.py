"""Great Expectations gates between the layers."""
