"""Sharing with other visitors: links with their QR codes, finished studies to read, and classes."""
