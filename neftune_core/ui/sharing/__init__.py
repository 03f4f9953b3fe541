"""Sharing with other visitors: links with QR codes, read-only studies, and classes."""
