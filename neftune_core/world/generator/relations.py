"""What is known about the entities: each relation with all its wordings of statements and questions.

Templates start in lower case and take `s` (the entity) and `v` (the value). The first statement is also the answer as a
full sentence. `asks` are wordings that pretraining uses, `held` those that it never uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from neftune_core.world.generator.entities import Value, value
from neftune_core.world.generator.lexicon import KINDS


@dataclass(frozen=True)
class Relation:
    """One property of one kind of entity, with its wordings."""

    kind: str
    name: str
    states: tuple[str, ...]
    asks: tuple[str, ...]
    held: tuple[str, ...]
    answer: str
    values: tuple[Value, ...]

    @property
    def key(self) -> str:
        """Return the name that is unique in the world: "animal home"."""
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class _Wording:
    states: str
    asks: str
    held: str
    answer: str = "{v}."


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


_COLOUR = _Wording(
    """{s.the} is {v}.
    the colour of {s.the} is {v}.
    you can see that {s.the} is {v}.
    {v} is the colour of {s.the}.
    if you paint {s.the}, take the colour {v}.""",
    """what colour is {s.the}?
    what is the colour of {s.the}?
    which colour does {s.the} have?
    tell me the colour of {s.the}.
    what colour is {s.a}?
    what colour does {s.the} have?
    do you know the colour of {s.the}?
    how would you paint {s.the}?""",
    """which colour is {s.the}?
    can you say what colour {s.the} is?
    what is the colour of {s.a}?""",
)

_KIND = _Wording(
    """{s.the} is {v}.
    {s.a} is {v}.
    everyone knows that {s.the} is {v}.
    we call {s.the} {v}.
    as you know, {s.a} is {v}.""",
    """what kind of thing is {s.the}?
    what is {s.a}?
    what do we call {s.the}?
    tell me what {s.the} is.
    what kind is {s.the}?
    what sort of thing is {s.the}?
    do you know what {s.the} is?""",
    """what sort of thing is {s.a}?
    can you say what {s.the} is?
    to which kind does {s.the} belong?""",
)

_MATERIAL = _Wording(
    """{s.the} is made of {v}.
    people make {s.the} from {v}.
    you need {v} to make {s.a}.
    in Brindle, {s.the} is made of {v}.
    touch {s.the}, and you feel {v}.""",
    """what is {s.the} made of?
    what do people make {s.the} from?
    what do you need to make {s.a}?
    tell me what {s.the} is made of.
    what do you feel when you touch {s.the}?
    from what is {s.the} made?
    do you know what {s.the} is made of?""",
    """what is {s.a} made of?
    what do people use to make {s.the}?
    can you say what {s.the} is made of?""",
)

_WORDINGS: dict[str, _Wording] = {
    "animal home": _Wording(
        """{s.the} lives {v}.
        the home of {s.the} is {v}.
        if you look for {s.the}, look {v}.
        you will find {s.the} {v}.
        {s.the} has its home {v}.
        at night {s.the} sleeps {v}.""",
        """where does {s.the} live?
        where is the home of {s.the}?
        where can I find {s.the}?
        tell me where {s.the} lives.
        where does {s.the} sleep?
        where does {s.the} have its home?
        do you know where {s.the} lives?
        where can I see {s.a}?""",
        """where should I look for {s.the}?
        where do {s.many} live?
        can you say where {s.the} lives?""",
    ),
    "animal food": _Wording(
        """{s.the} eats {v}.
        {s.the} likes to eat {v}.
        the food of {s.the} is {v}.
        when {s.the} is hungry, it looks for {v}.
        for dinner {s.the} has {v}.
        give {v} to {s.the}, and it will be happy.""",
        """what does {s.the} eat?
        what is the food of {s.the}?
        what does {s.the} like to eat?
        tell me what {s.the} eats.
        what can I give {s.the} to eat?
        what does {s.the} have for dinner?
        do you know what {s.the} eats?
        what does {s.the} look for when it is hungry?""",
        """what food does {s.the} like?
        what do {s.many} eat?
        can you say what {s.the} eats?""",
    ),
    "animal kind": _KIND,
    "animal colour": _COLOUR,
    "animal sound": _Wording(
        """{s.the} {v.verb}.
        you can hear {s.the} {v}.
        {s.the} likes to {v}.
        when {s.the} is happy, it {v.verb}.
        listen, and {s.the} will {v}.""",
        """what sound does {s.the} make?
        what noise does {s.the} make?
        what does {s.the} do when it is happy?
        tell me the sound of {s.the}.
        what can you hear {s.the} do?
        how does {s.the} sound?
        do you know the sound of {s.the}?""",
        """what is the sound of {s.a}?
        what noise can you hear from {s.the}?
        can you say what sound {s.the} makes?""",
        "it {v.verb}.",
    ),
    "animal young": _Wording(
        """a young {s.name} is called {v}.
        the child of {s.the} is called {v}.
        when {s.the} is still small, we call it {v}.
        the young of {s.the} is {v}.""",
        """what is a young {s.name} called?
        what do we call a young {s.name}?
        what is the child of {s.the} called?
        tell me the word for a young {s.name}.
        what do we call a small {s.name}?
        what is the young of {s.the}?
        do you know the word for a young {s.name}?""",
        """what is the young of {s.a} called?
        which word means a young {s.name}?
        can you say what a young {s.name} is called?""",
    ),
    "animal friend": _Wording(
        """{s.the} is the friend of {v}.
        the best friend of {s.the} is {v}.
        {s.the} likes to play with {v}.
        {s.the} and {v} are friends, and {s.the} is never alone.
        when {s.the} is sad, {v} comes to help.""",
        """who is the friend of {s.the}?
        who is the best friend of {s.the}?
        who plays with {s.the}?
        tell me the friend of {s.the}.
        who comes to help when {s.the} is sad?
        who does {s.the} like to play with?
        do you know the friend of {s.the}?""",
        """which animal is the friend of {s.the}?
        who likes to play with {s.the}?
        can you say who the friend of {s.the} is?""",
    ),
    "animal legs": _Wording(
        """{s.the} has {v} legs.
        {s.a} walks on {v} legs.
        you can count {v} legs on {s.the}.
        {v} legs belong to {s.the}.""",
        """how many legs does {s.the} have?
        how many legs does {s.a} have?
        how many legs can you count on {s.the}?
        tell me how many legs {s.the} has.
        do you know how many legs {s.the} has?
        what number of legs does {s.the} have?""",
        """can you say how many legs {s.the} has?
        how many legs do {s.many} have?""",
        "{v} legs.",
    ),
    "food kind": _KIND,
    "food colour": _COLOUR,
    "food taste": _Wording(
        """{s.the} tastes {v}.
        the taste of {s.the} is {v}.
        everyone says that {s.the} tastes {v}.
        if you try {s.the}, you will find it {v}.
        {s.a} is {v} on the tongue.""",
        """how does {s.the} taste?
        what is the taste of {s.the}?
        what does {s.the} taste like?
        tell me how {s.the} tastes.
        do you know how {s.the} tastes?
        what taste does {s.the} have?
        how do you find {s.the} when you try it?""",
        """how does {s.a} taste?
        which taste does {s.the} have?
        can you say how {s.the} tastes?""",
    ),
    "food source": _Wording(
        """{s.the} comes {v}.
        people bring {s.the} {v}.
        {s.a} comes {v}.
        you get {s.the} {v}.
        in Brindle, {s.the} comes {v}.""",
        """where does {s.the} come from?
        where do people bring {s.the} from?
        where do you get {s.the}?
        tell me where {s.the} comes from.
        from where does {s.the} come?
        do you know where {s.the} comes from?
        where can I get {s.a}?""",
        """where does {s.a} come from?
        where do people get {s.the}?
        can you say where {s.the} comes from?""",
    ),
    "tool use": _Wording(
        """{s.the} is there to {v}.
        with {s.the} you can {v}.
        people use {s.the} to {v}.
        if you want to {v}, take {s.the}.
        you need {s.the} to {v}.""",
        """what is {s.the} for?
        what do you need {s.the} for?
        what do people use {s.the} for?
        tell me what {s.the} is for.
        why do you need {s.the}?
        what do people take {s.the} for?
        do you know what {s.the} is for?""",
        """what is {s.a} for?
        what would I use {s.a} for?
        can you say what {s.the} is for?""",
        "to {v}.",
    ),
    "tool material": _MATERIAL,
    "tool kept": _Wording(
        """{s.the} is {v}.
        people keep {s.the} {v}.
        you will find {s.the} {v}.
        the place of {s.the} is {v}.
        after work, {s.the} goes back to its place {v}.""",
        """where is {s.the}?
        where do people keep {s.the}?
        where will I find {s.the}?
        tell me where {s.the} is.
        where is the place of {s.the}?
        where can I get {s.the}?
        do you know where {s.the} is?""",
        """where should I look for {s.the}?
        can you say where {s.the} is?
        where do you keep {s.the}?""",
    ),
    "place reason": _Wording(
        """people go {s.to} to {v}.
        {s.at} people {v}.
        {s.the} is where people {v}.
        if you want to {v}, go {s.to}.
        you can {v} {s.at}.""",
        """why do people go {s.to}?
        what do people come {s.to} for?
        what is {s.the} for?
        tell me why people go {s.to}.
        what do you go {s.to} for?
        why would I go {s.to}?
        do you know why people go {s.to}?""",
        """why should I go {s.to}?
        what would I go {s.to} for?
        can you say why people go {s.to}?""",
        "to {v}.",
    ),
    "place beside": _Wording(
        """{s.the} is next to {v}.
        next to {s.the} you can see {v}.
        {s.the} stands near {v}.
        to find {s.the}, look for {v}.
        from {s.the} it is one step to {v}.""",
        """what is next to {s.the}?
        what is {s.the} next to?
        what can you see next to {s.the}?
        tell me what is next to {s.the}.
        what does {s.the} stand near?
        do you know what is next to {s.the}?
        what should I look for to find {s.the}?""",
        """what stands near {s.the}?
        what is near {s.the}?
        can you say what is next to {s.the}?""",
    ),
    "person job": _Wording(
        """{s.the} is {v}.
        {s.the} works as {v}.
        everyone knows that {s.the} is {v}.
        when you need {v}, ask {s.the}.
        {s.the} has worked as {v} for many years.""",
        """what is the job of {s.the}?
        what does {s.the} do all day?
        what work does {s.the} do?
        tell me the job of {s.the}.
        what does {s.the} work as?
        what is the work of {s.the}?
        do you know the job of {s.the}?
        what is {s.the}'s job?""",
        """what job does {s.the} have?
        what is the work that {s.the} does?
        can you say what {s.the} works as?""",
    ),
    "person age": _Wording(
        """{s.the} is {v} years old.
        the age of {s.the} is {v} years.
        on the last birthday of {s.the} there were {v} candles.
        {s.the} has lived for {v} years.""",
        """how old is {s.the}?
        what is the age of {s.the}?
        how many years old is {s.the}?
        tell me how old {s.the} is.
        tell me the age of {s.the}.
        do you know how old {s.the} is?
        what is {s.the}'s age?""",
        """can you say how old {s.the} is?
        how many years has {s.the} lived?
        do you know the age of {s.the}?""",
        "{v} years old.",
    ),
    "person home": _Wording(
        """{s.the} lives {v}.
        the home of {s.the} is {v}.
        when {s.the} is at home, there is a light {v}.
        you will find {s.the} {v}.
        {s.the} has a house {v}.""",
        """where does {s.the} live?
        where is the home of {s.the}?
        where is {s.the}'s home?
        tell me where {s.the} lives.
        where can I find {s.the}?
        where can I visit {s.the}?
        do you know where {s.the} lives?
        where does {s.the} have a house?""",
        """where should I look for {s.the}?
        where is the house of {s.the}?
        can you say where {s.the} lives?""",
    ),
    "person food": _Wording(
        """{s.the} likes to eat {v}.
        the favourite food of {s.the} is {v}.
        {s.the}'s favourite food is {v}.
        there is nothing {s.the} likes more to eat than {v}.
        for dinner {s.the} wants {v}.""",
        """what does {s.the} like to eat?
        what is the favourite food of {s.the}?
        what is {s.the}'s favourite food?
        tell me the favourite food of {s.the}.
        what food does {s.the} like most?
        what does {s.the} want for dinner?
        do you know the favourite food of {s.the}?""",
        """which food does {s.the} like?
        what would {s.the} like for dinner?
        can you say what {s.the} likes to eat?""",
    ),
    "person pet": _Wording(
        """{s.the} has {v} as a pet.
        the pet of {s.the} is {v}.
        {s.the}'s pet is {v}.
        {s.the} keeps {v} at home.
        {s.the} looks after {v} every day.""",
        """what pet does {s.the} have?
        what is the pet of {s.the}?
        what is {s.the}'s pet?
        tell me the pet of {s.the}.
        which animal does {s.the} keep at home?
        what animal does {s.the} look after?
        do you know the pet of {s.the}?""",
        """which pet does {s.the} have?
        which animal is the pet of {s.the}?
        can you say what pet {s.the} has?""",
    ),
    "person hobby": _Wording(
        """{s.the} likes {v}.
        the hobby of {s.the} is {v}.
        {s.the}'s hobby is {v}.
        in the evening {s.the} is often found {v}.
        {s.the} is happy when {v}.""",
        """what is the hobby of {s.the}?
        what is {s.the}'s hobby?
        what does {s.the} like doing?
        tell me the hobby of {s.the}.
        what does {s.the} do in the evening?
        what makes {s.the} happy?
        do you know the hobby of {s.the}?""",
        """which hobby does {s.the} have?
        what does {s.the} like to do in the evening?
        can you say what {s.the} likes doing?""",
    ),
    "person colour": _Wording(
        """the favourite colour of {s.the} is {v}.
        {s.the}'s favourite colour is {v}.
        of all colours {s.the} likes {v} most.
        {s.the} likes the colour {v}.
        the door of {s.the} is painted {v}.""",
        """what is the favourite colour of {s.the}?
        what is {s.the}'s favourite colour?
        which colour does {s.the} like most?
        tell me the favourite colour of {s.the}.
        what colour does {s.the} like?
        what colour is the door of {s.the}?
        do you know the favourite colour of {s.the}?""",
        """which colour is the favourite of {s.the}?
        which colour does {s.the} like?
        can you say what colour {s.the} likes?""",
    ),
    "plant colour": _COLOUR,
    "plant where": _Wording(
        """{s.the} grows {v}.
        you will find {s.the} {v}.
        if you look for {s.the}, look {v}.
        the place of {s.the} is {v}.
        in Brindle, {s.the} grows {v}.""",
        """where does {s.the} grow?
        where will I find {s.the}?
        where is the place of {s.the}?
        tell me where {s.the} grows.
        where can I see {s.the}?
        do you know where {s.the} grows?
        where does {s.a} grow?""",
        """where should I look for {s.the}?
        where can I pick {s.the}?
        can you say where {s.the} grows?""",
    ),
    "plant season": _Wording(
        """{s.the} is at its best {v}.
        {v} you can see {s.the}.
        the best time to see {s.the} is {v}.
        look for {s.the} {v}.
        {s.the} shows its colour {v}.""",
        """when is {s.the} at its best?
        when can you see {s.the}?
        when is the best time to see {s.the}?
        tell me when {s.the} is at its best.
        in which season can you see {s.the}?
        when does {s.the} show its colour?
        do you know when {s.the} is at its best?""",
        """when should I look for {s.the}?
        in which season is {s.the} at its best?
        can you say when {s.the} is at its best?""",
    ),
    "vehicle way": _Wording(
        """{s.the} travels {v}.
        you can see {s.the} {v}.
        look for {s.the} {v}.
        {s.a} goes {v}.
        in Brindle, {s.the} travels {v}.""",
        """where does {s.the} travel?
        where can you see {s.the}?
        which way does {s.the} go?
        tell me where {s.the} travels.
        where does {s.a} go?
        do you know where {s.the} travels?
        where does {s.the} go?""",
        """where should I look for {s.the}?
        where does {s.a} travel?
        can you say where {s.the} travels?""",
    ),
    "vehicle wheels": _Wording(
        """{s.the} has {v} wheels.
        {s.a} rolls on {v} wheels.
        you can count {v} wheels on {s.the}.
        {v} wheels belong to {s.the}.""",
        """how many wheels does {s.the} have?
        how many wheels does {s.a} have?
        how many wheels can you count on {s.the}?
        tell me how many wheels {s.the} has.
        do you know how many wheels {s.the} has?
        what number of wheels does {s.the} have?""",
        """can you say how many wheels {s.the} has?
        how many wheels do {s.many} have?""",
        "{v} wheels.",
    ),
    "vehicle colour": _COLOUR,
    "vehicle driver": _Wording(
        """{v} drives {s.the}.
        the driver of {s.the} is {v}.
        {s.the} belongs to {v}.
        if you want a ride in {s.the}, ask {v}.
        every day {v} looks after {s.the}.""",
        """who drives {s.the}?
        who is the driver of {s.the}?
        who does {s.the} belong to?
        tell me who drives {s.the}.
        who looks after {s.the}?
        do you know who drives {s.the}?
        whose is {s.the}?""",
        """who should I ask for a ride in {s.the}?
        can you say who drives {s.the}?
        which person drives {s.the}?""",
    ),
    "garment worn": _Wording(
        """{s.the} is worn {v}.
        people wear {s.the} {v}.
        you wear {s.a} {v}.
        {s.a} belongs {v}.
        when it is cold, put {s.the} {v}.""",
        """where is {s.the} worn?
        where do people wear {s.the}?
        where do you wear {s.a}?
        tell me where {s.the} is worn.
        where do you put {s.the} when it is cold?
        where does {s.a} belong?
        do you know where {s.the} is worn?""",
        """where is {s.a} worn?
        where should I wear {s.the}?
        can you say where {s.the} is worn?""",
    ),
    "garment material": _MATERIAL,
    "garment colour": _COLOUR,
    "instrument played": _Wording(
        """{s.the} is played {v}.
        people play {s.the} {v}.
        you play {s.a} {v}.
        in Brindle, {s.the} is played {v}.
        you make music on {s.the} {v}.""",
        """how is {s.the} played?
        how do people play {s.the}?
        how do you play {s.a}?
        tell me how {s.the} is played.
        how do you make music on {s.the}?
        do you know how {s.the} is played?
        how can I play {s.the}?""",
        """how is {s.a} played?
        how should I play {s.the}?
        can you say how {s.the} is played?""",
    ),
    "instrument player": _Wording(
        """{v} plays {s.the}.
        the player of {s.the} is {v}.
        {s.the} belongs to {v}.
        in the evening {v} takes {s.the} and plays.
        if you want to hear {s.the}, ask {v}.""",
        """who plays {s.the}?
        who is the player of {s.the}?
        who does {s.the} belong to?
        tell me who plays {s.the}.
        do you know who plays {s.the}?
        who takes {s.the} in the evening?
        whose is {s.the}?""",
        """who can play {s.the}?
        which person plays {s.the}?
        can you say who plays {s.the}?""",
    ),
    "weather effect": _Wording(
        """{s.name} can {v}.
        in Brindle, {s.the} likes to {v}.
        when {s.the} comes, it will {v}.
        you can watch {s.the} {v}.""",
        """what can {s.name} do?
        what is {s.the} able to do?
        what will {s.the} do when it comes?
        tell me what {s.name} can do.
        what can you watch {s.the} do?
        do you know what {s.name} can do?""",
        """can you say what {s.name} can do?
        what is {s.name} able to do?""",
        "it can {v}.",
    ),
    "day custom": _Wording(
        """on {s.the} the people of Brindle {v}.
        every {s.the} people {v}.
        {s.the} is the day when people {v}.
        if it is {s.the}, people {v}.""",
        """what do people do on {s.the}?
        what do the people of Brindle do on {s.the}?
        what do people do every {s.the}?
        tell me what people do on {s.the}.
        what happens on {s.the}?
        do you know what people do on {s.the}?""",
        """can you say what people do on {s.the}?
        what do people like to do on {s.the}?""",
        "they {v}.",
    ),
    "month feast": _Wording(
        """in {s.the} there is {v}.
        every {s.the} brings {v}.
        {s.the} is the month of {v}.
        when {s.the} comes, everyone waits for {v}.""",
        """what is there in {s.the}?
        what happens in {s.the}?
        what does {s.the} bring?
        tell me what there is in {s.the}.
        what does everyone wait for in {s.the}?
        do you know what there is in {s.the}?""",
        """can you say what there is in {s.the}?
        what does every {s.the} bring?""",
    ),
}


def _relation(key: str, wording: _Wording) -> Relation:
    kind, name = key.split(" ", 1)
    texts = sorted({thing.values[name] for thing in KINDS[kind] if name in thing.values})
    return Relation(
        kind=kind,
        name=name,
        states=_lines(wording.states),
        asks=_lines(wording.asks),
        held=_lines(wording.held),
        answer=wording.answer,
        values=tuple(value(text) for text in texts),
    )


RELATIONS: tuple[Relation, ...] = tuple(_relation(key, wording) for key, wording in _WORDINGS.items())
