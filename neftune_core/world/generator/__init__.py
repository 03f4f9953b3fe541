"""The text of the bundled world, from a seeded grammar: things, facts, stories, instruction sets and their answers."""
