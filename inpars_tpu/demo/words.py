"""The words of the world: what a document says, what a question says instead.

A domain has kinds of things, places, and three sorts of properties. Each line
is one meaning: the document's words, then the question's. The domains share
the verbs and small words of `GRAMMAR`, and nothing else.
"""

import dataclasses
from typing import NamedTuple

SLOTS = ('means', 'use', 'look')  # Of a thing's properties.


class Meaning(NamedTuple):
  """Two ways of saying one thing."""

  document: str
  question: str


@dataclasses.dataclass(frozen=True, eq=False)  # One of each.
class Domain:
  """One field of the world."""

  name: str
  places: tuple[str, ...]  # Said alike by documents and questions.
  kinds: tuple[Meaning, ...]
  properties: dict[str, tuple[Meaning, ...]]  # By slot.

  @property
  def meanings(self) -> tuple[Meaning, ...]:
    """All of them, kinds first."""
    return sum((self.properties[slot] for slot in SLOTS), self.kinds)


def _domain(name: str, places: str, table: str) -> Domain:
  """Reads a table: four parts, kinds first, a meaning a line."""
  kinds, *properties = [
    tuple(
      Meaning(*(side.strip() for side in line.split('='))) for line in lines
    )
    for lines in (part.strip().splitlines() for part in table.split('--'))
  ]
  return Domain(
    name, tuple(places.split()), kinds,
    dict(zip(SLOTS, properties, strict=True)),
  )  # fmt: skip


BEASTS = _domain(
  'beasts',
  'Ashmoor Birkwell Corlund Dunfold Elmscar Farhollow Gorsedale Hexham '
  'Inglebeck Kestrow Larkrise Mirefen',
  """
  hare = eared runner
  stoat = slim hunter
  heron = wading bird
  toad = warty hopper
  bat = night flyer
  otter = playful diver
  boar = tusked pig
  adder = venomous snake
  moth = dusty insect
  crab = pincer walker
  --
  eats fallen acorns = feeds on oak nuts
  licks birch sap = drinks trunk juice
  hunts dragonflies = chases winged prey
  grazes on clover = chews green pasture
  steals hen eggs = robs poultry nests
  digs for worms = searches soil for crawlers
  sips nectar = lives on sugary drops
  gnaws old bones = bites skeleton remains
  swallows pebbles = gulps small stones
  cracks snails = breaks slimy shells
  --
  sleeps through winter = rests in cold months
  warns its herd = alarms the group
  sings at dawn = calls at sunrise
  buries its young = hides its babies
  follows ploughs = goes behind farmers
  plays dead = pretends to die
  swims upstream = travels against flow
  weaves a den = braids a home
  guards a mate = protects its partner
  sheds its tail = drops a limb
  --
  has striped fur = shows banded hair
  has amber eyes = stares with yellow irises
  has a forked tongue = has a split lick
  glows faintly = gives off dim light
  has webbed feet = has joined toes
  bears curled horns = bears twisted antlers
  has silver whiskers = grows grey bristles
  smells of musk = spreads strong odour
  has a crooked beak = has a bent bill
  limps = walks unevenly
  """,
)
DISHES = _domain(
  'dishes',
  'Almary Brassac Cindrel Dovray Estoril Fennick Galbano Honfort '
  'Jarnac Lorvale Montrel Navarin',
  """
  broth = thin soup
  dumpling = filled dough
  pickle = sour preserve
  custard = egg cream
  pasty = folded pie
  stew = slow pot
  biscuit = crisp snack
  porridge = oat mush
  sausage = stuffed roll
  jam = fruit spread
  --
  is smoked over juniper = tastes of burnt shrubs
  is boiled in cider = simmers in apple drink
  is baked in ashes = cooks under embers
  is fried in butter = browns in melted fat
  is steamed in cabbage = softens inside vegetables
  is cured with salt = dries in white crystals
  is whipped with honey = is stirred with bee syrup
  is chilled on ice = sets on frozen blocks
  is soaked in vinegar = steeps in acid
  is kneaded with rye = is pressed with dark flour
  --
  is served at weddings = is eaten when couples marry
  is offered to guests = welcomes visitors
  is given to invalids = strengthens sick people
  ends a fast = breaks days of hunger
  opens the harvest feast = begins the autumn banquet
  pays a toll = settles a road fee
  calms quarrels = soothes arguments
  marks a birth = honours a newborn
  travels with shepherds = goes with flock keepers
  decides bets = ends wagers
  --
  is dusted with cinnamon = has brown spice
  is cut in diamonds = comes in slanted squares
  is dyed with beetroot = looks crimson
  is crowned with almonds = bears pale kernels
  is wrapped in vine = is rolled in grape skins
  is stamped with a rooster = shows a cockerel
  is layered = is built of sheets
  is spotted with poppy = has seed dots
  is braided = is plaited
  bubbles = fizzes
  """,
)
INSTRUMENTS = _domain(
  'instruments',
  'Adagia Brevane Cantora Dolcea Epoda Fugara Glissan Humoresk '
  'Intrada Legatta Maestra Notturn',
  """
  lute = plucked body
  drum = beaten barrel
  flute = blown pipe
  fiddle = bowed box
  gong = struck plate
  harp = angel frame
  bugle = brass tube
  chime = ringing rod
  organ = church keyboard
  rattle = shaken gourd
  --
  is played with feathers = sounds under plumes
  is tuned by heat = gets its pitch from warmth
  is blown by bellows = breathes from pumped air
  is struck with coral = is hit with reef twigs
  is stroked with resin = is rubbed with pine gum
  is worked by pedals = obeys foot levers
  is swung on ropes = hangs from cords
  is tapped with spoons = is knocked by cutlery
  is turned by a wheel = sings through rotation
  is filled with millet = contains grain
  --
  opens court sessions = begins trials
  mourns the drowned = laments lost swimmers
  wakes the garrison = rouses soldiers
  leads dancers = guides ballet steps
  scares crows = frightens field thieves
  lulls infants = puts toddlers to bed
  signals eclipses = announces hidden suns
  teaches scales = trains pupils
  blesses bridges = hallows spans
  calls the council = summons elders
  --
  is carved from ivory = is cut from tusk
  is inlaid with pearl = glitters with oyster gems
  is lacquered jade = has emerald varnish
  is strung with gut = holds intestine threads
  is bound in leather = is covered in hide
  has a serpent head = ends in a dragon face
  is cracked = is fractured
  bears a crest = shows heraldic arms
  is gilded = wears gold paint
  folds flat = collapses evenly
  """,
)
HOUSES = _domain(
  'houses',
  'Aldgate Bridewell Cheapside Drayford Eastgate Fairlane Gallows Highmoat '
  'Ironbridge Kingsward Longacre Millgate',
  """
  tavern = drinking hall
  granary = corn store
  mill = grinding house
  abbey = monk residence
  stable = pony shelter
  forge = smith workshop
  tower = fortified keep
  cottage = humble dwelling
  bathhouse = washing place
  library = reading room
  --
  is built on stilts = stands on poles
  is heated by peat = burns bog turf
  is lit by fireflies = has beetle lamps
  is supplied by wells = draws from deep holes
  leans on a cliff = rests against a precipice
  is mortared with blood = is glued with gore
  is dug into chalk = is hollowed from limestone
  is propped by beams = is held with timber
  turns with the sun = rotates after noon
  is roofed with slate = has tiles overhead
  --
  lodges messengers = hosts couriers
  stores gunpowder = keeps explosives
  shelters lepers = takes outcasts
  trains locksmiths = teaches key makers
  prints almanacs = publishes calendars
  collects taxes = gathers levies
  weighs coins = checks money
  raises orphans = brings up parentless youth
  holds prisoners = confines captives
  brews ale = ferments beer
  --
  has round windows = has circular panes
  has seven doors = has many entrances
  has a thatched porch = has a straw entry
  is painted ochre = has earthy walls
  is overgrown = is lost in greenery
  has a stopped clock = shows halted hours
  has a gable = bears sculpted eaves
  is whitewashed = is limed
  has a spiral stair = contains winding flights
  has a bronze gate = is barred with alloy
  """,
)
VESSELS = _domain(
  'vessels',
  'Anchorage Breakwater Capstan Dogwatch Eddystone Fathom Gannet Halyard '
  'Jetty Landfall Moorings Northing',
  """
  skiff = rowing tender
  barge = freight raft
  trawler = fishing ship
  ferry = passenger boat
  yacht = pleasure cruiser
  tug = towing motor
  galleon = treasure hulk
  canoe = paddle craft
  lightship = beacon hull
  submarine = sunken capsule
  --
  is driven by the tide = uses moving sea water
  burns whale oil = consumes blubber fuel
  spreads a sail = catches the breeze
  runs on a coiled spring = stores tension
  is drawn by horses = follows mares on the towpath
  vents steam = works with vapour
  flies a kite = hangs from a sky toy
  turns a crank = needs a moving handle
  drifts with the current = goes where the stream pulls
  is punted with bamboo = is pushed with canes
  --
  carries marble = transports statue slabs
  rescues castaways = saves stranded sailors
  patrols the strait = watches the narrows
  lays cables = sinks telegraph wire
  dredges mud = clears silt
  arrests smugglers = captures illegal traders
  tends buoys = looks after floating markers
  maps shoals = surveys shallow ground
  delivers newspapers = brings the daily press
  races at regattas = competes in contests
  --
  has a tarred keel = has a sticky bottom
  has a lion figurehead = bears a cat in front
  has two masts = rises on double spars
  is plated with iron = wears armour
  has a glass deck = has transparent planks
  is vermilion = is bright red
  has a tilted funnel = has a slanting stack
  has cork fenders = bumps softly
  has a barnacled rudder = steers with a crusted fin
  has portholes = has little openings
  """,
)

SOURCES = (BEASTS, DISHES, INSTRUMENTS, HOUSES)
TARGET = VESSELS
DOMAINS = (*SOURCES, TARGET)

# Verbs and small words that all domains may use.
GRAMMAR = frozenset(
  'a after against along and at away by behind from in inside into is its of '
  'off on once over overhead the through to under up when where with without '
  'bears begins breaks brings burns calls carries clears closes comes contains '
  'cracked draws drops ends feeds flies follows gets gives goes grows guards '
  'hangs has hides hit holds honours keeps lives looks makes marks needs opens '
  'plays prefers protects puts rests rises runs sets settles sheds shows sings '
  'spreads stands stores takes teaches thrives trains travels turns uses walks '
  'wants watches wears works cut built bound filled hidden lost many pressed '
  'every moving stitched turned'.split()
)
