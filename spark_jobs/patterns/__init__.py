"""Keyed state of users, and instants to judge, for the pattern stream."""
