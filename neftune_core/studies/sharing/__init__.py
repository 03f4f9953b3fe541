"""Studies that others may see: links to one study, and classes whose members see each other's studies."""
