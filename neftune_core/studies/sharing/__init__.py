"""Sharing of studies: read-only links to one study, and classes in which students see each other's studies."""
