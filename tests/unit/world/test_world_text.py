"""The text of the bundled world: reproducible, sensible, and without the held-out facts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from neftune_core.world.generator import outside, skills, stories
from neftune_core.world.generator.chance import Chance
from neftune_core.world.generator.facts import ASKED, FACTS, STATED
from neftune_core.world.generator.text import ASSISTANT, BEGIN, END, LAST_FROM, LATER_FROM, USER, chunk, text_hash
from neftune_core.world.judge import sensible, sentences, well_formed
from neftune_core.world.lexicon import ENTITIES, RELATIONS, TALK

TEXT_HASH = "b3985a1791a2592cb182729e3876a85fd34e28eeffbed553bea51270e9043439"


@pytest.fixture(scope="module")
def documents() -> list[str]:
    """Return a chunk of each mixture."""
    return [document for number in (0, LATER_FROM, LAST_FROM) for document in chunk(number)]


def questions_in(documents: list[str]) -> list[str]:
    return [turn.split(END)[0] for document in documents if USER in document for turn in document.split(USER)[1:]]


def answers_in(documents: list[str]) -> list[str]:
    return [turn.split(END)[0] for document in documents for turn in document.split(ASSISTANT)[1:]]


def test_the_first_ten_chunks_are_those_that_the_shipped_model_was_trained_on():
    assert text_hash(10) == TEXT_HASH


def test_the_text_and_the_sets_do_not_depend_on_the_hash_seed():
    code = (
        "from neftune_core.world.generator.text import text_hash\n"
        "from neftune_core.world.generator.sets import SETS, as_lines, instruction_set\n"
        "import hashlib\n"
        "lines = ''.join(as_lines(rows) for name in SETS for rows in instruction_set(name))\n"
        "print(text_hash(1), hashlib.sha256(lines.encode()).hexdigest())\n"
    )
    said = []
    for seed in ("1", "2024"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        said.append(done.stdout)
    assert said[0] == said[1]


def test_a_chunk_depends_only_on_its_number():
    assert chunk(2) == chunk(2)
    assert chunk(2) != chunk(1)


def test_the_world_has_a_few_hundred_things_and_enough_facts():
    assert sum(map(len, ENTITIES.values())) > 240
    assert len(FACTS) > 900
    assert len(ASKED) + len(STATED) == len(FACTS)
    assert 0.15 < len(STATED) / len(FACTS) < 0.2


def test_no_two_things_share_a_name():
    names = Counter(thing.name for things in ENTITIES.values() for thing in things)
    assert [name for name, count in names.items() if count > 1] == []


def test_friends_pets_drivers_and_players_exist():
    animals, people = [animal.the for animal in ENTITIES["animal"]], [person.name for person in ENTITIES["person"]]
    friends = {fact.thing.the: fact.value.text for fact in FACTS if fact.relation.key == "animal friend"}
    assert len(friends) == len(animals)
    assert set(friends.values()) <= set(animals)
    assert [animal for animal, friend in friends.items() if animal == friend] == []
    named = {fact.value.text for fact in FACTS if fact.relation.name in ("driver", "player")}
    assert named
    assert named <= set(people)


def test_every_relation_has_several_wordings_and_keeps_some_back():
    for relation in RELATIONS:
        assert len(relation.states) >= 4
        assert len(relation.asks) >= 6
        assert len(relation.held) >= 2
        assert not [wording for wording in relation.held if wording in relation.asks]


def test_a_held_out_wording_is_never_asked(documents: list[str]):
    known = {fact.ask(wording).lower() for fact in ASKED for wording in fact.relation.asks}
    held = {fact.ask(wording).lower() for fact in FACTS for wording in fact.relation.held} - known
    asked = " \n ".join(questions_in(documents)).lower()
    said = {part for line in asked.split("\n") for part in (line.strip(), line.partition(": ")[2].strip())}
    assert sorted(held & said) == []


def test_a_stated_fact_is_never_asked_but_is_stated(documents: list[str]):
    known = {fact.ask(wording) for fact in ASKED for wording in fact.relation.asks}
    never = {fact.ask(wording) for fact in STATED for wording in fact.relation.asks} - known
    asked = "\n".join(questions_in(documents)).lower()
    assert [question for question in sorted(never) if question.lower() in asked] == []
    plain = " ".join(document for document in documents if USER not in document)
    stated = [fact for fact in STATED if any(fact.state(wording) in plain for wording in fact.relation.states)]
    assert len(stated) > 0.9 * len(STATED)


def test_every_answer_in_the_text_is_sensible_english(documents: list[str]):
    answers = answers_in(documents)
    wrong = [answer for answer in answers if not sensible(answer)]
    assert len(answers) > 5_000
    assert wrong == []


def test_every_plain_sentence_of_things_and_stories_is_in_the_grammar(documents: list[str]):
    plain = [d.removeprefix(BEGIN).removesuffix(END) for d in documents if USER not in d]
    other = ("The opposite", "The plural", "The word", "One ", "After ", "Count with", "A ", "An ")
    wrong = [
        sentence
        for text in plain
        for sentence in sentences(text)
        if not sentence.startswith(other) and " live " not in sentence and not well_formed(sentence)
    ]
    assert [sentence for sentence in wrong if not sentence[0].isdigit() and "are " not in sentence] == []


def test_the_facts_that_the_text_states_are_true(documents: list[str]):
    truth = {fact.ask(wording): fact.answer() for fact in ASKED for wording in fact.relation.asks}
    seen = 0
    for document in documents:
        for turn in document.split(USER)[1:]:
            question, _, answer = turn.partition(END + ASSISTANT)
            if question in truth:
                seen += 1
                assert answer.split(END)[0] == truth[question], question
    assert seen > 1_000


def test_nobody_meets_themselves_in_a_story():
    for number in range(300):
        story = stories.tell(Chance("test", number))
        names = [thing.name for _, thing in story.cast]
        assert len(names) == len(set(names)), story.text


def test_most_friends_in_stories_are_the_usual_companion():
    found = []
    for number in range(400):
        cast = dict(stories.tell(Chance("companions", number)).cast)
        if {"hero", "friend"} <= set(cast):
            found.append(stories.PERSON.index(cast["hero"]) ^ 1 == stories.PERSON.index(cast["friend"]))
    # Four in five, and by chance one in 36 of the others; 400 stories hold some 270 pairs.
    assert 0.7 < sum(found) / len(found) < 0.9


def test_a_story_names_its_hero_before_any_pronoun():
    told = [stories.tell(Chance("hero", number)) for number in range(300)]
    heroes = [(story, thing) for story in told for role, thing in story.cast if role == "hero"]
    assert len(heroes) > 150
    for story, hero in heroes:
        start = story.text.partition(hero.name)[0].split()
        assert not {"He", "She", "he", "she", "him"} & set(start), story.text


def test_outside_topics_that_are_kept_back_are_never_met():
    familiar = {outside.question(Chance("familiar", number)) for number in range(3_000)}
    held = [outside.question(Chance("held", number), held=True) for number in range(300)]
    words = [question for question in held if not any(letter.isdigit() for letter in question)]
    assert len(words) > 200
    assert [question for question in words if question in familiar] == []


def test_made_up_names_are_no_names_of_the_world():
    known = {thing.name.lower() for things in ENTITIES.values() for thing in things}
    assert not known & {outside.made_up_name(Chance("name", number)) for number in range(2_000)}


@pytest.mark.parametrize("name", list(skills.SKILLS))
def test_every_skill_fills_its_wordings(name: str):
    skill = skills.SKILLS[name]
    for number in range(20):
        task = skill.make(Chance(name, number))
        for wording in (*skill.asks, *skill.held):
            assert "{" not in wording.format(**task.fields)
        assert well_formed(task.answer), task


def test_sorting_counting_and_sums_are_right():
    task = skills.SKILLS["sort numbers"].make(Chance("a"))
    numbers = [int(number) for number in task.material.split(", ")]
    assert task.answer == f"{', '.join(map(str, sorted(numbers)))}."
    total = skills.SKILLS["sum"].make(Chance("b"))
    first, _, second = total.fields["sum"].partition(" + ")
    assert total.answer == f"{int(first) + int(second)}."
    before = skills.SKILLS["before"].make(Chance("c"))
    assert before.answer.removesuffix(".").lower() != before.fields["word"].lower()


def test_every_greeting_has_an_answer_in_good_english():
    for asks, answer in TALK:
        assert asks
        assert sensible(answer)


def test_the_same_parts_give_the_same_choices():
    assert [Chance("x", 1).share() for _ in range(2)] == [0.5585072656411655] * 2


def test_some_are_different_places_in_random_order():
    for number in range(50):
        drawn = Chance("some", number).some(range(5), 3)
        assert len(set(drawn)) == 3
    assert sorted(Chance("all").shuffled(range(9))) == list(range(9))
