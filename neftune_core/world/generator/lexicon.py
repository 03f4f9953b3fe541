"""The tables of the world: every entity with its properties.

A row is one entity; a dash means that it lacks the property. Everything was made up for this project.
"""

from __future__ import annotations

from collections.abc import Iterator

from neftune_core.world.generator.entities import Thing, common, proper

VILLAGE = "Brindle"

# name | plural | kind | colour | home | food | sound | young | friend
ANIMALS = """
owl       | owls       | a bird      | brown  | in the barn        | beetles      | hoot    | an owlet    | hedgehog
hen       | hens       | a bird      | red    | in the hen house   | corn         | cluck   | a chick     | goat
goose     | geese      | a bird      | white  | by the pond        | grass        | honk    | a gosling   | donkey
duck      | ducks      | a bird      | green  | by the pond        | pond weed    | quack   | a duckling  | frog
robin     | robins     | a bird      | orange | in the holly bush  | crumbs       | whistle | -           | mole
crow      | crows      | a bird      | black  | in the tall elm    | nuts         | croak   | -           | sheep
swan      | swans      | a bird      | white  | by the river       | water plants | hiss    | a cygnet    | otter
sparrow   | sparrows   | a bird      | brown  | under the roof     | crumbs       | chirp   | -           | horse
heron     | herons     | a bird      | grey   | in the reeds       | little fish  | croak   | -           | cow
cat       | cats       | a mammal    | orange | in the kitchen     | fish         | purr    | a kitten    | crow
dog       | dogs       | a mammal    | yellow | in the kennel      | bones        | bark    | a puppy     | duck
cow       | cows       | a mammal    | brown  | in the shed        | clover       | moo     | a calf      | sparrow
horse     | horses     | a mammal    | black  | in the stable      | oats         | neigh   | a foal      | cat
donkey    | donkeys    | a mammal    | grey   | in the stable      | thistles     | bray    | -           | bee
goat      | goats      | a mammal    | white  | on the hill        | leaves       | bleat   | a kid       | hen
sheep     | sheep      | a mammal    | white  | in the meadow      | grass        | bleat   | a lamb      | dog
pig       | pigs       | a mammal    | pink   | in the sty         | acorns       | grunt   | a piglet    | snail
mouse     | mice       | a mammal    | grey   | under the floor    | cheese       | squeak  | -           | pig
rabbit    | rabbits    | a mammal    | grey   | in a burrow        | carrots      | -       | -           | toad
fox       | foxes      | a mammal    | red    | in a den           | berries      | bark    | a cub       | goose
badger    | badgers    | a mammal    | black  | in a den           | roots        | grunt   | a cub       | robin
hedgehog  | hedgehogs  | a mammal    | brown  | under the hedge    | worms        | snuffle | -           | fox
squirrel  | squirrels  | a mammal    | red    | in the hollow oak  | nuts         | chatter | -           | bat
mole      | moles      | a mammal    | black  | in a tunnel        | worms        | -       | -           | ant
deer      | deer       | a mammal    | brown  | in the wood        | leaves       | -       | a fawn      | squirrel
bat       | bats       | a mammal    | black  | in the bell tower  | moths        | squeak  | a pup       | heron
otter     | otters     | a mammal    | brown  | by the river       | little fish  | whistle | a pup       | swan
frog      | frogs      | an amphibian| green  | in the ditch       | flies        | croak   | a tadpole   | spider
toad      | toads      | an amphibian| brown  | under the stone    | worms        | croak   | a tadpole   | deer
newt      | newts      | an amphibian| green  | in the well        | flies        | -       | -           | rabbit
bee       | bees       | an insect   | yellow | in the hive        | pollen       | buzz    | a grub      | trout
ant       | ants       | an insect   | black  | in a tunnel        | crumbs       | -       | a grub      | beetle
beetle    | beetles    | an insect   | green  | under the stone    | leaves       | -       | a grub      | butterfly
butterfly | butterflies| an insect   | blue   | in the meadow      | nectar       | -       | a caterpillar | newt
spider    | spiders    | a spider    | black  | in the attic       | flies        | -       | -           | mouse
snail     | snails     | a snail     | grey   | behind the pots    | leaves       | -       | -           | owl
trout     | trout      | a fish      | silver | under the bridge   | flies        | -       | -           | badger
"""

LEGS = {
    "a bird": "two",
    "a mammal": "four",
    "an amphibian": "four",
    "an insect": "six",
    "a spider": "eight",
    "a snail": "no",
    "a fish": "no",
}

# name | plural or dash | kind | colour | taste | where it comes from
FOODS = """
plum      | plums      | a fruit     | purple | sweet  | from the orchard
apple     | apples     | a fruit     | red    | sweet  | from the orchard
pear      | pears      | a fruit     | yellow | sweet  | from the orchard
cherry    | cherries   | a fruit     | red    | sour   | from the orchard
fig       | figs       | a fruit     | purple | sweet  | from the glass house
lemon     | lemons     | a fruit     | yellow | sour   | from the glass house
peach     | peaches    | a fruit     | pink   | sweet  | from the glass house
blackberry| blackberries | a fruit   | black  | sour   | from the hedge
strawberry| strawberries | a fruit   | red    | sweet  | from the garden
carrot    | carrots    | a vegetable | orange | sweet  | from the garden
turnip    | turnips    | a vegetable | white  | bitter | from the field
onion     | onions     | a vegetable | brown  | sharp  | from the field
radish    | radishes   | a vegetable | pink   | sharp  | from the garden
pea       | peas       | a vegetable | green  | sweet  | from the garden
cabbage   | cabbages   | a vegetable | green  | bitter | from the field
pumpkin   | pumpkins   | a vegetable | orange | mild   | from the field
potato    | potatoes   | a vegetable | brown  | mild   | from the field
mushroom  | mushrooms  | a vegetable | white  | mild   | from the wood
bread     | -          | a baked food| brown  | mild   | from the bakery
bun       | buns       | a baked food| golden | sweet  | from the bakery
pie       | pies       | a baked food| golden | salty  | from the bakery
biscuit   | biscuits   | a baked food| golden | sweet  | from the bakery
pancake   | pancakes   | a baked food| yellow | sweet  | from the kitchen
milk      | -          | a drink     | white  | mild   | from the dairy
tea       | -          | a drink     | green  | bitter | from the kitchen
cider     | -          | a drink     | golden | sharp  | from the orchard
butter    | -          | a spread    | yellow | salty  | from the dairy
cheese    | -          | a spread    | white  | salty  | from the dairy
honey     | -          | a spread    | golden | sweet  | from the hives
jam       | -          | a spread    | purple | sweet  | from the kitchen
soup      | -          | a hot meal  | orange | salty  | from the kitchen
porridge  | -          | a hot meal  | grey   | mild   | from the kitchen
stew      | -          | a hot meal  | brown  | salty  | from the inn
"""

# name | plural | what it is for | material | where it is kept
TOOLS = """
hammer    | hammers    | knock in nails        | iron   | in the workshop
saw       | saws       | cut planks            | steel  | in the workshop
spade     | spades     | dig the garden        | iron   | behind the door
rake      | rakes      | gather leaves         | wood   | behind the door
broom     | brooms     | sweep the floor       | straw  | in the corner
bucket    | buckets    | carry water           | tin    | by the well
ladder    | ladders    | reach the roof        | wood   | in the barn
rope      | ropes      | tie up the boat       | hemp   | on the hook
needle    | needles    | mend shirts           | steel  | in the basket
kettle    | kettles    | boil water            | copper | on the stove
pan       | pans       | fry eggs              | iron   | on the hook
spoon     | spoons     | stir the soup         | wood   | in the drawer
knife     | knives     | slice bread           | steel  | in the drawer
jug       | jugs       | pour milk             | clay   | on the shelf
bowl      | bowls      | mix dough             | clay   | on the shelf
lantern   | lanterns   | light the path        | brass  | on the hook
candle    | candles    | read at night         | wax    | in the drawer
basket    | baskets    | carry apples          | straw  | in the corner
net       | nets       | catch fish            | hemp   | in the boat house
axe       | axes       | chop wood             | steel  | in the shed
brush     | brushes    | paint the fence       | hair   | in the shed
key       | keys       | open the gate         | brass  | on the shelf
bell      | bells      | call the children     | brass  | by the gate
clock     | clocks     | tell the time         | brass  | on the wall
map       | maps       | find the way          | paper  | in the chest
"""

# name | preposition | why people go there | what it is next to
PLACES = """
mill        | at | grind the corn         | the weir
bakery      | at | buy fresh buns         | the square
market      | at | sell vegetables        | the fountain
school      | at | learn to read          | the library
library     | at | borrow books           | the school
harbour     | at | meet the boats         | the lighthouse
lighthouse  | at | watch the waves        | the harbour
orchard     | in | pick plums             | the mill
meadow      | in | fly kites              | the river
wood        | in | gather mushrooms       | the meadow
garden      | in | water the beans        | the glass house
glass house | in | look at the figs       | the garden
barn        | in | stack the hay          | the stable
stable      | in | brush the horses       | the barn
kitchen     | in | cook the dinner        | the pantry
workshop    | in | build chairs           | the forge
forge       | at | bend iron              | the workshop
inn         | at | hear old songs         | the bridge
bridge      | on | look at the trout      | the inn
hill        | on | see the whole valley   | the windmill
square      | in | dance in the evening   | the bakery
pond        | by | feed the ducks         | the willow
river       | by | wash the wool          | the bridge
bell tower  | in | ring the bells         | the town hall
"""

# name | pronoun | job, or age for a child | home | favourite food | pet | hobby | favourite colour
PEOPLE = """
Tilda   | she | a baker       | in Mill Lane        | plum       | cat      | painting boats      | blue
Bram    | he  | a miller      | in Mill Lane        | bread      | dog      | flying kites        | red
Odo     | he  | a smith       | in Forge Street     | stew       | goat     | playing chess       | black
Mabel   | she | a weaver      | in Forge Street     | fig        | rabbit   | singing songs       | purple
Jory    | he  | a fisher      | at Harbour Row      | lemon      | otter    | carving spoons      | green
Nessa   | she | a sailor      | at Harbour Row      | pie        | crow     | drawing maps        | silver
Ivo     | he  | a shepherd    | on Windy Hill       | cheese     | sheep    | telling stories     | white
Hester  | she | a farmer      | on Windy Hill       | turnip     | pig      | collecting stones   | brown
Corin   | he  | a gardener    | in Rose Cottage     | pea        | hedgehog | growing roses       | pink
Dilly   | she | a teacher     | in Rose Cottage     | apple      | owl      | reading poems       | yellow
Fenn    | he  | a doctor      | in the White House  | soup       | horse    | riding far          | grey
Greta   | she | a clockmaker  | in the White House  | biscuit    | mouse    | mending toys        | golden
Hob     | he  | a carpenter   | in Oak Yard         | onion      | squirrel | building towers     | orange
Oona    | she | a potter      | in Oak Yard         | honey      | hen      | baking cakes        | red
Anselm  | he  | a cobbler     | in Boot Alley       | radish     | sparrow  | playing marbles     | blue
Petra   | she | a tailor      | in Boot Alley       | peach      | spider   | knitting socks      | green
Piers   | he  | a beekeeper   | in Honey Close      | pancake    | bee      | watching clouds     | golden
Lettie  | she | a cook        | in Honey Close      | pumpkin    | goose    | picking mushrooms   | white
Rollo   | he  | a ferryman    | in the Boat House   | cider      | frog     | rowing boats        | silver
Winnie  | she | a painter     | in the Boat House   | cherry     | swan     | skipping stones     | purple
Tobin   | he  | a librarian   | in Paper Street     | tea        | bat      | solving riddles     | brown
Edda    | she | a singer      | in Paper Street     | jam        | robin    | dancing             | pink
Ulric   | he  | an innkeeper  | on Bridge Road      | cabbage    | badger   | throwing darts      | black
Junia   | she | a messenger   | on Bridge Road      | pear       | donkey   | running races       | orange
Wystan  | he  | nine          | in Green Farm       | mushroom   | snail    | climbing trees      | yellow
Signy   | she | seven         | in Green Farm       | porridge   | duck     | making dolls        | grey
Casper  | he  | eight         | in Bell Lane        | bun        | toad     | playing football    | green
Marit   | she | ten           | in Bell Lane        | strawberry | butterfly| pressing flowers    | blue
Dunstan | he  | six           | in Duck Street      | carrot     | duck     | splashing in puddles| red
Ansa    | she | eleven        | in Duck Street      | milk       | fox      | skating             | white
Hugo    | he  | seven         | in the Red House    | potato     | cow      | digging holes       | purple
Cecily  | she | nine          | in the Red House    | blackberry | newt     | catching newts      | silver
Lorcan  | he  | ten           | on Church Road      | butter     | mole     | swimming            | brown
Bettony | she | eight         | on Church Road      | plum       | deer     | whistling tunes     | golden
Milo    | he  | eleven        | in Plum Cottage     | honey      | heron    | building dams       | orange
Freya   | she | six           | in Plum Cottage     | apple      | beetle   | blowing bubbles     | yellow
"""

# name | plural | colour | where it grows | season
PLANTS = """
rose      | roses      | red    | by the gate        | in summer
daisy     | daisies    | white  | in the meadow      | in spring
tulip     | tulips     | yellow | in the garden      | in spring
violet    | violets    | purple | under the hedge    | in spring
poppy     | poppies    | red    | in the field       | in summer
lily      | lilies     | white  | by the pond        | in summer
thistle   | thistles   | purple | on the hill        | in autumn
bluebell  | bluebells  | blue   | in the wood        | in spring
sunflower | sunflowers | golden | by the fence       | in summer
heather   | -          | pink   | on the hill        | in autumn
clover    | -          | green  | in the meadow      | in summer
ivy       | -          | green  | on the old wall    | in autumn
holly     | -          | green  | by the church      | in winter
moss      | -          | green  | on the roof        | in winter
snowdrop  | snowdrops  | white  | under the oak      | in winter
crocus    | crocuses   | orange | by the well        | in spring
lavender  | -          | blue   | along the path     | in summer
foxglove  | foxgloves  | pink   | in the wood        | in summer
aster     | asters     | blue   | by the gate        | in autumn
willow    | willows    | silver | by the river       | in spring
fern      | ferns      | brown  | under the bridge   | in autumn
iris      | irises     | yellow | in the reeds       | in winter
"""

# name | plural | where it travels | wheels | colour | driver
VEHICLES = """
cart      | carts      | on the road        | two   | brown  | Bram
wagon     | wagons     | on the road        | four  | green  | Hester
bicycle   | bicycles   | on the path        | two   | red    | Junia
tricycle  | tricycles  | on the path        | three | yellow | Casper
bus       | buses      | on the road        | six   | blue   | Ulric
tractor   | tractors   | in the field       | four  | orange | Corin
train     | trains     | on the rails       | eight | black  | Odo
tram      | trams      | on the rails       | four  | white  | Greta
ferry     | ferries    | on the river       | no    | silver | Rollo
canoe     | canoes     | on the river       | no    | brown  | Jory
sailboat  | sailboats  | on the sea         | no    | white  | Nessa
sledge    | sledges    | over the snow      | no    | red    | Ansa
balloon   | balloons   | over the clouds    | no    | purple | Piers
van       | vans       | on the road        | four  | pink   | Tilda
"""

# name | plural | where it is worn | material | colour
CLOTHES = """
hat       | hats       | on the head        | straw   | yellow
cap       | caps       | on the head        | wool    | blue
hood      | hoods      | on the head        | felt    | green
scarf     | scarves    | round the neck     | silk    | red
shawl     | shawls     | round the shoulders| wool    | grey
cloak     | cloaks     | round the shoulders| felt    | black
coat      | coats      | over the shirt     | leather | brown
apron     | aprons     | over the shirt     | cotton  | white
mitten    | mittens    | on the hand        | wool    | orange
ring      | rings      | on the hand        | silver  | golden
belt      | belts      | round the waist    | leather | black
sock      | socks      | on the foot        | wool    | purple
boot      | boots      | on the foot        | leather | brown
slipper   | slippers   | on the foot        | felt    | pink
"""

# name | plural | how it is played | player
INSTRUMENTS = """
flute     | flutes     | by blowing         | Edda
horn      | horns      | by blowing         | Ivo
pipe      | pipes      | by blowing         | Hob
drum      | drums      | by beating         | Odo
gong      | gongs      | by beating         | Ulric
fiddle    | fiddles    | with a bow         | Mabel
cello     | cellos     | with a bow         | Tobin
harp      | harps      | with the fingers   | Winnie
lute      | lutes      | with the fingers   | Corin
piano     | pianos     | with the fingers   | Dilly
"""

# name | what it does
WEATHER = """
rain      | fill the ponds
snow      | cover the roofs
frost     | paint the windows
fog       | hide the hills
wind      | turn the mill
sunshine  | dry the washing
thunder   | frighten the sheep
hail      | beat the roof
dew       | wet the grass
ice       | close the river
"""

# name | what the people do on it
DAYS = """
Monday    | wash their clothes
Tuesday   | bake bread
Wednesday | go to market
Thursday  | clean the streets
Friday    | catch fish
Saturday  | dance in the square
Sunday    | rest at home
"""

# name | what is held in it
MONTHS = """
January   | the lantern walk
February  | the pancake race
March     | the kite day
April     | the egg hunt
May       | the flower dance
June      | the boat race
July      | the wool fair
August    | the plum supper
September | the harvest feast
October   | the pumpkin contest
November  | the bonfire night
December  | the candle feast
"""

OPPOSITES = (
    "big small, hot cold, long short, old new, wet dry, fast slow, high low, day night, up down, in out, "
    "open shut, full empty, light dark, hard soft, happy sad, loud quiet, early late, near far, thick thin, "
    "strong weak, clean dirty, left right, over under, first last, good bad, rich poor, wide narrow, deep shallow, "
    "heavy light, young old, sweet sour, rough smooth, brave timid, push pull, come go, give take, sleep wake, "
    "laugh cry, win lose, buy sell, begin end, before after, always never, inside outside"
)

_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)
NUMBERS = tuple(_NUMBERS.split())

SEASONS = ("spring", "summer", "autumn", "winter")

_COLOURS = "black blue brown golden green grey orange pink purple red silver white yellow"
COLOURS = tuple(_COLOURS.split())

_PRONOUNS = {"she": ("she", "her", "her"), "he": ("he", "his", "him")}


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.strip().splitlines():
        yield [cell.strip() for cell in line.split("|")]


def _with(thing: Thing, **values: str) -> Thing:
    thing.values.update({name: text for name, text in values.items() if text != "-"})
    return thing


def _animals() -> Iterator[Thing]:
    for name, many, kind, colour, home, food, sound, young, friend in _rows(ANIMALS):
        yield _with(
            common("animal", name, many),
            kind=kind,
            colour=colour,
            home=home,
            food=food,
            sound=sound,
            young=young,
            friend=f"the {friend}",
            legs=LEGS[kind],
        )


def _foods() -> Iterator[Thing]:
    for name, many, kind, colour, taste, source in _rows(FOODS):
        yield _with(common("food", name, many), kind=kind, colour=colour, taste=taste, source=source)


def _tools() -> Iterator[Thing]:
    for name, many, use, material, kept in _rows(TOOLS):
        yield _with(common("tool", name, many, use=use), use=use, material=material, kept=kept)


def _places() -> Iterator[Thing]:
    for name, preposition, reason, beside in _rows(PLACES):
        thing = common("place", name, f"{name}s", at=f"{preposition} the {name}", to=f"to the {name}")
        yield _with(thing, reason=reason, beside=beside)


def _people() -> Iterator[Thing]:
    foods = {food.name: food for food in FOOD}
    animals = {animal.name: animal for animal in ANIMAL}
    for name, pronoun, work, home, food, pet, hobby, colour in _rows(PEOPLE):
        yield _with(
            proper("person", name, _PRONOUNS[pronoun]),
            job=work if " " in work else "-",
            age="-" if " " in work else work,
            home=home,
            food=foods[food].many,
            pet=animals[pet].a,
            hobby=hobby,
            colour=colour,
        )


def _plants() -> Iterator[Thing]:
    for name, many, colour, where, season in _rows(PLANTS):
        yield _with(common("plant", name, many), colour=colour, where=where, season=season)


def _vehicles() -> Iterator[Thing]:
    for name, many, way, wheels, colour, driver in _rows(VEHICLES):
        yield _with(common("vehicle", name, many), way=way, wheels=wheels, colour=colour, driver=driver)


def _clothes() -> Iterator[Thing]:
    for name, many, worn, material, colour in _rows(CLOTHES):
        yield _with(common("garment", name, many), worn=worn, material=material, colour=colour)


def _instruments() -> Iterator[Thing]:
    for name, many, played, player in _rows(INSTRUMENTS):
        yield _with(common("instrument", name, many), played=played, player=player)


ANIMAL = tuple(_animals())
FOOD = tuple(_foods())
TOOL = tuple(_tools())
PLACE = tuple(_places())
PERSON = tuple(_people())
PLANT = tuple(_plants())
VEHICLE = tuple(_vehicles())
GARMENT = tuple(_clothes())
INSTRUMENT = tuple(_instruments())
WEATHERS = tuple(_with(common("weather", name, "-", use=effect), effect=effect) for name, effect in _rows(WEATHER))
DAY = tuple(_with(proper("day", name, use=custom), custom=custom) for name, custom in _rows(DAYS))
MONTH = tuple(_with(proper("month", name), feast=feast) for name, feast in _rows(MONTHS))

KINDS: dict[str, tuple[Thing, ...]] = {
    "animal": ANIMAL,
    "food": FOOD,
    "tool": TOOL,
    "place": PLACE,
    "person": PERSON,
    "plant": PLANT,
    "vehicle": VEHICLE,
    "garment": GARMENT,
    "instrument": INSTRUMENT,
    "weather": WEATHERS,
    "day": DAY,
    "month": MONTH,
}

# What a group of things is called, singular and plural: for lists, counting and the odd one out.
GROUPS = {
    "animal": ("animal", "animals"),
    "food": ("food", "foods"),
    "tool": ("tool", "tools"),
    "place": ("place", "places"),
    "plant": ("plant", "plants"),
    "vehicle": ("vehicle", "vehicles"),
    "garment": ("piece of clothing", "pieces of clothing"),
    "instrument": ("instrument", "instruments"),
}

OPPOSITE_PAIRS = tuple((first, second) for first, second in (pair.split() for pair in OPPOSITES.split(", ")))
