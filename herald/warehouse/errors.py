"""Errors of the warehouse, apart so that catching one does not import the client."""


class WarehouseDownError(Exception):
    """The warehouse does not answer; the message says where it was looked for."""
