"""The text of the bundled world, from a seeded grammar: entities, facts, stories and instruction sets."""
