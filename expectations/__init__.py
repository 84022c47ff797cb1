"""Quality gates between the layers of the warehouse: what must hold, how it is checked, stored."""
