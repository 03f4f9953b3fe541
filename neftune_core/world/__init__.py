"""The bundled world: the fictional village of Brindle, whose facts are all known, and the small model trained on it.

scoring       exact match after normalising, and the score of a story
generator/    the text of the world, from a seeded grammar
    chance        seeded choices that are the same on every machine
    entities      entities of the world and the forms of their names
    lexicon       tables: animals, people, foods, tools, places and others
    relations     what is known about them, with all wordings of statements and questions
    facts         every fact, and which of them pretraining never asks about
    skills        counting, sorting, opposites, spelling and other small tasks
    stories       short stories
    dialogue      greetings and questions about the model itself
    outside       questions that the world cannot answer
    text          documents of all of these: the pretraining text
    judge         whether the grammar can produce a sentence, and whether it makes sense
    sets          instruction sets with training and held-out parts
    vocabulary    the tokenizer and the chat template
pretraining/  the bundled model
    build         pretraining: seeded and resumable
    measure       results with greedy decoding
    report        the table of the documentation and the model card
    make          all steps of `neftune world build`
"""
