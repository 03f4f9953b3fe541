"""The bundled world: the fictional village of Brindle, with known facts, and the small model trained on it.

The word tables are in `assets/world/words/`: entities, wordings, plots.

scoring       exact match after normalising, and the score of a story
judge         check that the grammar can produce a sentence
entities      an entity and the forms of its name
lexicon       all entities and their properties with all wordings, short lists of words, and greetings
plots         templates of stories
generator/    the text of the world, from a seeded grammar
    chance        seeded choices that are the same on every machine
    facts         all facts, including those that pretraining never asks about
    skills        counting, sorting, opposites, spelling and other small tasks
    stories       short stories
    outside       questions that the world cannot answer
    text          the pretraining text: documents about all of these
    sets          instruction sets with training and held-out parts
    vocabulary    the tokenizer and the chat template
pretraining/  the bundled model
    build         pretraining: seeded and resumable
    make          all steps of `neftune world build`: pretraining, results with greedy decoding, and the model card
"""
