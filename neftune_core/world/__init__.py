"""The bundled world: the village of Brindle, whose truth is known, and the small model that grew up in it.

Read downwards:

    chance      seeded choices that are the same on every machine
    things      the things of the world and the forms of their names
    lexicon     the tables: animals, people, foods, tools, places and the rest
    relations   what is known about them, and all the wordings of stating and asking it
    facts       every fact, and which of them pretraining never asks
    skills      counting, sorting, opposites, spelling and other small tasks
    stories     short stories made of the things
    talk        greetings and questions about the model itself
    outside     what the world does not know, and says so
    text        documents of all these: the pretraining text
    judge       is a sentence one that the grammar can make, and does it make sense?
    scoring     exact match after normalising, and the score of a story
    sets        the instruction sets, in training and held-out parts
    vocabulary  the tokenizer and the chat template
    build       pretraining: seeded, resumable
    measure     what the model answers with plain greedy decoding
    report      the table of the documentation, and the model's card
    make        all of `neftune world build`: build, measure, write the card
"""
