"""The pretraining text: documents about the whole world, in a fixed order.

A document begins with `BEGIN` and ends with `END`. A conversation marks its speakers with `USER`, `ASSISTANT` and
`SYSTEM`, and ends each message with `END`, exactly as the chat template does.
"""

from __future__ import annotations

import hashlib
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from neftune_core.world.entities import Entity, capital, listing, proper, say
from neftune_core.world.generator import outside, skills, stories
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, FACTS, Fact, facts_of
from neftune_core.world.lexicon import ENTITIES, RELATIONS, TALK, UNKNOWN, lines, word_table

SEED = 1
CHUNK = 2_000

BEGIN, END = "<|begin|>", "<|end|>"
USER, ASSISTANT, SYSTEM, PAD = "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>"

Turn = tuple[str, str]

_WORDS = word_table("conversation")
_SYSTEMS, _WRAPPERS, _ABOUT_ASKS = (lines(_WORDS[name]) for name in ("systems", "wrappers", "about_asks"))
FULL_SENTENCE, VERY_SHORT, TWICE = (lines(_WORDS[name]) for name in ("full_sentence", "very_short", "twice"))
STORY_ASKS, ANY_STORY_ASKS = lines(_WORDS["story_asks"]), lines(_WORDS["any_story_asks"])
_MANY_ASKS: dict[str, str] = _WORDS["many_asks"]

_THINGS = tuple(thing for things in ENTITIES.values() for thing in things)
_BY_RELATION = {relation.key: tuple(f for f in FACTS if f.relation is relation) for relation in RELATIONS}
_RELATION_WEIGHTS = tuple((relation.key, float(len(_BY_RELATION[relation.key]))) for relation in RELATIONS)


def chat(turns: Iterable[Turn], system: str = "") -> str:
    """Return a conversation as a document.

    Args:
        turns: Pairs of a user message and an answer.
        system: System message; "" for none.

    Returns:
        The document.
    """
    start = f"{BEGIN}{SYSTEM}{system}{END}" if system else BEGIN
    return start + "".join(f"{USER}{user}{END}{ASSISTANT}{answer}{END}" for user, answer in turns)


def plain(sentences: Iterable[str]) -> str:
    """Return sentences as a document."""
    return f"{BEGIN}{' '.join(sentences)}{END}"


def _state(fact: Fact, chance: Chance) -> str:
    return fact.state(chance.one(fact.relation.states))


def _state_with_pronoun(fact: Fact, chance: Chance) -> str:
    """Return the fact with a pronoun instead of the name, if the drawn wording allows it."""
    wordings = [wording for wording in fact.relation.states if wording.startswith("{s.the} ")]
    rest = chance.one(wordings).removeprefix("{s.the} ") if wordings else "{s."
    if "{s." in rest:
        return _state(fact, chance)
    return say("{it} " + rest, it=fact.thing.it, s=fact.thing, v=fact.value)


def _about(chance: Chance) -> str:
    first, *rest = chance.shuffled(facts_of(chance.one(_THINGS)))
    sentences = [_state(first, chance)]
    sentences += [(_state_with_pronoun if chance.happens(0.4) else _state)(fact, chance) for fact in rest]
    return plain(sentences)


def _some_facts(chance: Chance, *, alike: bool) -> str:
    """Return several facts; if `alike`, of one relation."""
    facts = _BY_RELATION[chance.weighted(_RELATION_WEIGHTS)] if alike else FACTS
    return plain(_state(fact, chance) for fact in chance.some(facts, chance.between(3, 6)))


def _skill_statements(chance: Chance) -> str:
    return plain(skills.statement(chance) for _ in range(chance.between(3, 6)))


def _story(chance: Chance) -> str:
    return plain([stories.tell(chance).text])


def _as_typed(question: str, chance: Chance) -> str:
    """Return the question, sometimes in lower case or without its final mark, as people type."""
    if chance.happens(0.06):
        question = question[:1].lower() + question[1:]
    if chance.happens(0.05) and question[-1] in ".?":
        question = question[:-1]
    return question


def _with_opening(question: str, chance: Chance) -> str:
    """Return the question, sometimes with introductory words; `question` starts with a capital letter."""
    if not question.startswith(("Wh", "How", "From", "In wh")) or chance.happens(0.82):
        return _as_typed(question, chance)
    lower = question[:1].lower() + question[1:]
    return chance.one(_WRAPPERS).format(q=lower, Q=question)


def _fact_turn(fact: Fact, chance: Chance) -> Turn:
    kind = chance.share()
    question = fact.ask(chance.one(fact.relation.asks))
    if fact.relation.key == "person job" and chance.happens(0.25):
        return _who(fact, chance)
    if kind < 0.76:
        return _with_opening(question, chance), fact.answer()
    if kind < 0.86:
        return f"{question} {chance.one(FULL_SENTENCE)}", fact.state()
    if kind < 0.91:
        return f"{question} {chance.one(VERY_SHORT)}", fact.value.bare
    if kind < 0.92:
        return f"{question} {chance.one(TWICE)}", f"{fact.answer()} {fact.answer()}"
    return _true_or_not(fact, chance)


def _any_fact_turn(chance: Chance) -> Turn:
    return _fact_turn(chance.one(ASKED), chance)


def _true_or_not(fact: Fact, chance: Chance) -> Turn:
    right = chance.happens(0.5)
    wording = chance.one(fact.relation.states[:2])
    claim = wording.format(s=fact.thing, v=fact.value if right else fact.wrong(chance))
    question = chance.one(("Is it true that {c}?", "Is it right that {c}?", "Tell me if this is true: {c}.", "{d}"))
    truth = fact.relation.states[0].format(s=fact.thing, v=fact.value)
    asked = question.format(c=claim.rstrip("."), d=_as_question(claim, fact.thing.the))
    return asked, f"{'Yes' if right else 'No'}, {truth}"


def _as_question(claim: str, subject: str) -> str:
    """Turn a claim into a question: "the owl lives in the barn." becomes "Does the owl live in the barn?"."""
    verbs = _WORDS["verbs"]
    verb, _, rest = claim.removeprefix(f"{subject} ").rstrip(".").partition(" ")
    if claim.startswith(subject) and verb == "is":
        return f"Is {subject} {rest}?"
    if claim.startswith(subject) and verb in verbs:
        return f"Does {subject} {verbs[verb]} {rest}?"
    return f"Is it true that {claim.rstrip('.')}?"


def _who(fact: Fact, chance: Chance) -> Turn:
    """Return a question for the person with a job, such as "Who is the baker?", and its answer."""
    question = chance.one(("Who is the {b} of Brindle?", "Who is the {b}?", "Who works as {v}?", "Tell me who is {v}."))
    return question.format(b=fact.value.bare, v=fact.value), f"{fact.thing.name}."


def _pronoun_turn(fact: Fact, chance: Chance) -> Turn | None:
    """Return a follow-up question with a pronoun, such as "And what does it eat?"; None if no wording allows one."""
    wordings = [
        wording
        for wording in fact.relation.asks
        if wording.count("{s.") == 1 and (" does {s.the} " in wording or " is {s.the}?" in wording)
    ]
    if not wordings:
        return None
    stand_in = proper("pronoun", fact.thing.it)
    question = chance.one(wordings).format(s=stand_in, v=fact.value)
    return chance.one((capital(question), f"And {question}")), fact.answer()


def _asked_of(thing: Entity) -> list[Fact]:
    return [fact for fact in facts_of(thing) if fact.asked]


def _questions(chance: Chance) -> list[Turn]:
    fact = chance.one(ASKED)
    turns = [_fact_turn(fact, chance)]
    if chance.happens(0.3):
        others = [other for other in _asked_of(fact.thing) if other is not fact]
        turn = _pronoun_turn(chance.one(others), chance) if others else None
        turns += [turn] if turn else []
    while len(turns) < 4 and chance.happens(0.35):
        turns.append(_any_fact_turn(chance))
    return turns


def about_turn(thing: Entity, chance: Chance) -> Turn | None:
    """Return a general question about an entity, answered by up to three facts.

    Args:
        thing: The entity.
        chance: The random stream.

    Returns:
        Question and answer, or None if nothing is asked about the entity.
    """
    facts = _asked_of(thing)[:3]
    if not facts:
        return None
    asks = (*_ABOUT_ASKS, "Who is {x}?", "Do you know {x}?") if thing.kind == "person" else _ABOUT_ASKS
    return chance.one(asks).format(x=thing.the), " ".join(fact.state() for fact in facts)


def skill_turn(chance: Chance, name: str | None = None) -> Turn:
    """Return a small task in a pretraining wording, with its list or word inside or after the sentence.

    Args:
        chance: The random stream.
        name: Name of the skill; a random one if None.

    Returns:
        Question and answer.
    """
    skill = skills.SKILLS[name or chance.one(_SKILL_NAMES)]
    task = skill.make(chance)
    wording = chance.one([wording for wording in skill.asks if task.material or "{" in wording])
    if "{" not in wording:
        return f"{wording}{chance.one(_GAPS)}{task.material}", task.answer
    if wording.endswith((": {list}", ": {word}")) and chance.happens(0.3):
        start = wording[: wording.rindex("{")].rstrip()
        return f"{start}{chance.one(_GAPS)}{task.material}", task.answer
    return _as_typed(wording.format(**task.fields), chance), task.answer


_GAPS = ("\n", "\n\n")
_SKILL_NAMES = (*skills.SKILLS, *skills.ASKED_SKILLS, "count", "sort words", "odd", "sort numbers")


def name_cast(story: stories.Story, chance: Chance) -> str:
    """List one to three members of a story's cast, such as "Tilda, the fox and the kettle".

    Args:
        story: The story, whose cast is named.
        chance: The random stream.

    Returns:
        The list as text.
    """
    cast = [thing.the for _, thing in story.cast]
    return listing(chance.some(cast, chance.between(1, min(3, len(cast)))))


def _story_turn(chance: Chance) -> Turn:
    story = stories.tell(chance)
    kind = chance.share()
    if kind < 0.7:
        return chance.one(STORY_ASKS).format(things=name_cast(story, chance)), story.text
    if kind < 0.8:
        return chance.one(ANY_STORY_ASKS), story.text
    count = chance.between(1, 2)
    start, rest = " ".join(story.sentences[:count]), " ".join(story.sentences[count:])
    return chance.one(_WORDS["continue_asks"]).format(start=start), rest


def _outside_turn(chance: Chance) -> Turn:
    kind = chance.share()
    if kind < 0.92:
        return _as_typed(outside.question(chance), chance), UNKNOWN
    fact = chance.one(ASKED)
    noun = chance.one((outside.made_up_name(chance), outside.unknown_noun(chance)))
    name = outside.stranger(chance) if fact.thing.kind == "person" else f"the {noun}"
    if fact.thing.kind in ("day", "month", "weather", "place"):
        return outside.question(chance), UNKNOWN
    wording = chance.one(fact.relation.asks).replace("{s.a}", "{s.the}").replace("{s.name}", "{s.the}")
    return say(wording, s=proper(fact.thing.kind, name)), UNKNOWN


def dialogue_turn(chance: Chance) -> Turn:
    """Draw a greeting or a question about the model itself, and the model's answer."""
    asks, answer = chance.one(TALK)
    return chance.one(asks), answer


def _general_turn(chance: Chance) -> Turn:
    while (turn := about_turn(chance.one(_THINGS), chance)) is None:
        pass
    return turn


_MANY_FACTS = tuple(fact for fact in ASKED if fact.relation.key in _MANY_ASKS and fact.thing.a != fact.thing.name)


def _many_turn(chance: Chance) -> Turn:
    fact = chance.one(_MANY_FACTS)
    return _as_typed(fact.ask(_MANY_ASKS[fact.relation.key]), chance), fact.answer()


def _asked_skill_turn(chance: Chance) -> Turn:
    return skill_turn(chance, chance.one(skills.ASKED_SKILLS))


# The model learns facts first and quickly. Stories and tasks on lists need more text, so their share grows: each number
# below is the weight in one of three stages, and the later stages begin with these chunks.
LATER_FROM, LAST_FROM = 64, 76

_TURNS: dict[Callable[[Chance], Turn], tuple[float, float, float]] = {
    skill_turn: (20, 22, 14),
    _asked_skill_turn: (0, 22, 20),
    _outside_turn: (16, 14, 11),
    _general_turn: (3, 4, 4),
    _story_turn: (7, 9, 20),
    _many_turn: (0, 0, 9),
    dialogue_turn: (3, 3, 2),
}
_FACT_TURNS = 25
_FACT_CONVERSATIONS = (0.55, 0.30, 0.24)
"""Probability in each stage that a conversation asks only for facts."""


def _conversation(chance: Chance, stage: int) -> str:
    system = chance.one(_SYSTEMS) if chance.happens(0.05) else ""
    if chance.happens(_FACT_CONVERSATIONS[stage]):
        return chat(_questions(chance), system)
    turns = [(turn, weights[stage]) for turn, weights in _TURNS.items()]
    conversation = [chance.weighted(turns)(chance)]
    turns.append((_any_fact_turn, _FACT_TURNS))
    continued_with = 0.9 if chance.happens(0.06) else 0.25
    while len(conversation) < 10 and chance.happens(continued_with):
        conversation.append(chance.weighted(turns)(chance))
    return chat(conversation, system)


_DOCUMENTS: dict[Callable[[Chance], str], tuple[float, float, float]] = {
    _about: (9, 6, 5),
    partial(_some_facts, alike=True): (4, 2, 2),
    partial(_some_facts, alike=False): (4, 2, 2),
    _skill_statements: (3, 4, 3),
    _story: (4, 8, 14),
}
_CONVERSATIONS = (76, 78, 74)


def chunk(number: int) -> list[str]:
    """Return the `CHUNK` documents of one chunk, which depend only on `SEED` and the number."""
    chance, stage = Chance("text", SEED, number), bisect((LATER_FROM, LAST_FROM), number)
    documents: list[tuple[Callable[[Chance], str], float]] = [
        (partial(_conversation, stage=stage), _CONVERSATIONS[stage])
    ]
    documents += [(document, weights[stage]) for document, weights in _DOCUMENTS.items()]
    return [chance.weighted(documents)(chance) for _ in range(CHUNK)]


def documents(chunks: int) -> Iterator[str]:
    """Yield the documents of the first `chunks` chunks."""
    for number in range(chunks):
        yield from chunk(number)


def text_hash(chunks: int) -> str:
    """Return the SHA-256 over the documents of the first `chunks` chunks, each followed by a line break."""
    digest = hashlib.sha256()
    for document in documents(chunks):
        digest.update(f"{document}\n".encode())
    return digest.hexdigest()
