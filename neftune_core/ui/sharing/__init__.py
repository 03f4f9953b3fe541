"""What one visitor shows to others: links with their QR codes, finished studies to read, and classes."""
