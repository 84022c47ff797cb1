"""Herald: an open notification-analytics platform. The shared library; see README.md."""

__version__ = "0.1.0"
