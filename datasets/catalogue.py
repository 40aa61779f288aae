"""What is fixed about Larkmoor, whatever the scale: its stores, its counter, its year, and the events of that year.

Store positions are city centres, to four decimals. People, dairies and cheeses are invented.
"""

import calendar
from datetime import UTC, datetime

HOUR = 3600
DAY = 24 * HOUR


def utc(text):
    """Return the Unix time in seconds of an ISO timestamp that is in UTC."""
    return calendar.timegm(datetime.fromisoformat(text).replace(tzinfo=UTC).timetuple())


# The shop's year: 365 days, and it ends with the weekend of the flash sale.
YEAR_START = utc("2024-12-01T00:00:00")
YEAR_END = utc("2025-12-01T00:00:00")

STORES = [  # city, country, AWS Region that serves it, latitude, longitude, share of the customers
    ("Dublin", "IE", "eu-west-1", 53.3498, -6.2603, 30),
    ("Cork", "IE", "eu-west-1", 51.8985, -8.4756, 9),
    ("Galway", "IE", "eu-west-1", 53.2707, -9.0568, 6),
    ("Edinburgh", "GB", "eu-west-1", 55.9533, -3.1883, 7),
    ("London", "GB", "eu-west-1", 51.5074, -0.1278, 14),
    ("Paris", "FR", "eu-central-1", 48.8566, 2.3522, 8),
    ("Lyon", "FR", "eu-central-1", 45.7640, 4.8357, 4),
    ("Frankfurt", "DE", "eu-central-1", 50.1109, 8.6821, 5),
    ("Amsterdam", "NL", "eu-central-1", 52.3676, 4.9041, 5),
    ("New York", "US", "us-east-1", 40.7128, -74.0060, 6),
    ("Boston", "US", "us-east-1", 42.3601, -71.0589, 4),
    ("Washington", "US", "us-east-1", 38.9072, -77.0369, 2),
]

FRIDGES = [("counter", 4), ("cold room", 2), ("cave", 11)]  # kind and target temperature in °C; one of each in a store

STYLES = [  # style, milk, cents for 250 g
    ("Cheddar", "cow", 495),
    ("Gouda", "cow", 475),
    ("Tomme", "cow", 645),
    ("Raclette", "cow", 595),
    ("Brie", "cow", 525),
    ("Camembert", "cow", 545),
    ("Blue", "cow", 625),
    ("Goat Log", "goat", 585),
    ("Crottin", "goat", 655),
    ("Feta", "sheep", 445),
    ("Pecorino", "sheep", 695),
    ("Mozzarella", "buffalo", 425),
]

DAIRIES = [  # dairy, its prices in percent of the usual
    ("Foxglove", 100), ("Harrow Hill", 110), ("Long Meadow", 95), ("Copper Kettle", 105), ("Drystone", 115),
    ("Elder Brook", 90), ("Mill Lane", 100), ("Thistle Down", 120), ("Otter Ford", 95), ("Bramble Bank", 105),
    ("Quarry Wood", 100), ("Stone Stile", 110), ("Heron Pool", 90), ("Rook Tower", 130), ("Candle Moor", 100),
    ("Five Gates", 85), ("Linnet Green", 105), ("Old Orchard", 115), ("Salt Marsh", 125), ("Winter Barn", 100),
]

GIVEN_NAMES = [
    "Ada", "Amara", "Anouk", "Aoife", "Bashir", "Ben", "Carla", "Chen", "Cormac", "Dara", "Elif", "Emeka", "Fiadh",
    "Finn", "Greta", "Hana", "Hugo", "Ines", "Ivo", "Jana", "Kofi", "Lena", "Liam", "Lucia", "Mara", "Mei", "Milo",
    "Nadia", "Niamh", "Noor", "Oisin", "Omar", "Pia", "Priya", "Ravi", "Rosa", "Saoirse", "Tomas", "Uma", "Yusuf",
]
FAMILY_NAMES = [
    "Abara", "Ahmed", "Becker", "Bianchi", "Byrne", "Costa", "Daly", "Dubois", "Eriksen", "Farrell", "Fischer",
    "Garcia", "Gallagher", "Haas", "Ito", "Jansen", "Kavanagh", "Keane", "Kowalski", "Laurent", "Lynch", "Mensah",
    "Moreau", "Murphy", "Nakamura", "Nolan", "Novak", "Okafor", "Petit", "Quinn", "Rossi", "Ryan", "Santos",
    "Schmidt", "Silva", "Sullivan", "Tanaka", "Walsh", "Weber", "Zhang",
]


def product(name):
    """Return the product number of a cheese by its full name, as in `product("Foxglove Brie")`."""
    for style_no, (style, _, _) in enumerate(STYLES):
        for dairy_no, (dairy, _) in enumerate(DAIRIES):
            if name == f"{dairy} {style}":
                return dairy_no * len(STYLES) + style_no + 1
    raise ValueError(f"no cheese is called {name!r}")


# What there is to find in the data. The dictionary asks; only its answers tell.
BEST_SELLER = product("Foxglove Cheddar")
FLASH_PRODUCT = product("Harrow Hill Raclette")
FLASH_START = utc("2025-11-28T18:00:00")
FLASH_END = FLASH_START + HOUR
HOT_CUSTOMER = 42  # a restaurant
DEAR_DAIRY = "Copper Kettle"  # raises all its prices at once
DEAR_FROM = utc("2025-06-01T00:00:00")
BROKEN_FRIDGE = 26
BROKEN_FROM = utc("2025-11-29T01:00:00")
BROKEN_UNTIL = utc("2025-11-29T07:00:00")
OFFLINE_STORE = 5
OFFLINE_FROM = utc("2025-11-30T04:00:00")
OFFLINE_UNTIL = utc("2025-11-30T09:00:00")

# Sessions: relative weight by hour of the day (UTC), weekday from Monday, and month from January.
HOUR_WEIGHTS = [3, 2, 1, 1, 1, 2, 4, 6, 8, 9, 10, 12, 13, 11, 9, 9, 10, 13, 15, 16, 14, 11, 8, 5]
WEEKDAY_WEIGHTS = [8, 8, 9, 10, 13, 15, 11]
MONTH_WEIGHTS = [8, 8, 9, 9, 9, 8, 7, 7, 9, 10, 11, 15]
FLASH_SHARE = (3, 200)  # of all sessions of the year start in that one hour
