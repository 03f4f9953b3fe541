"""Views inside the tabs, each used by one tab."""
