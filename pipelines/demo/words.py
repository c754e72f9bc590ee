"""The vocabulary and the fixed facts of the demo world."""

from __future__ import annotations

NAMES = (
    "Anna", "Boris", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irma", "Jonas",
    "Katja", "Leon", "Maria", "Nils", "Olga", "Peter", "Rosa", "Simon", "Tina", "Victor",
)  # fmt: skip

CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Norway": "Oslo",
    "Sweden": "Stockholm", "Finland": "Helsinki", "Poland": "Warsaw", "Austria": "Vienna",
    "Greece": "Athens", "Portugal": "Lisbon", "Ireland": "Dublin", "Hungary": "Budapest",
    "Japan": "Tokyo", "China": "Beijing", "Egypt": "Cairo", "Peru": "Lima",
    "Cuba": "Havana", "Kenya": "Nairobi", "Russia": "Moscow", "Germany": "Berlin",
}  # fmt: skip

CITIES = tuple(CAPITALS.values())

OPPOSITES = (
    ("hot", "cold"), ("big", "small"), ("old", "new"), ("fast", "slow"), ("light", "dark"),
    ("high", "low"), ("open", "closed"), ("happy", "sad"), ("wet", "dry"), ("full", "empty"),
    ("loud", "quiet"), ("hard", "soft"), ("rich", "poor"), ("long", "short"), ("early", "late"),
)  # fmt: skip

CATEGORIES = {
    "animal": ("dog", "cat", "horse", "cow", "sheep", "bird", "fish", "mouse"),
    "fruit": ("apple", "pear", "plum", "cherry", "lemon", "melon", "peach", "grape"),
    "tool": ("hammer", "saw", "drill", "knife", "spade", "needle", "rope", "brush"),
    "plant": ("oak", "rose", "tulip", "birch", "fern", "moss", "ivy", "pine"),
}

COLOURS = ("red", "blue", "green", "white", "black", "brown", "yellow", "grey")

THINGS = (
    "river", "stone", "garden", "window", "table", "book", "house", "road", "boat", "bridge",
    "letter", "song", "cloud", "tower", "market", "forest", "bread", "chair", "door", "coat",
)  # fmt: skip

PLACES = ("garden", "market", "forest", "house", "tower", "road", "bridge", "river")

LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")

# What support tickets speak of. The words are common knowledge; the rules which tie them to
# categories, teams, deadlines and warranties are the vertical's own (see `vertical.py`).
PRODUCTS = ("kettle", "toaster", "lamp", "fan", "heater", "mixer", "radio", "clock")
ISSUES = ("smoke", "sparks", "leaks", "drips", "noise", "rattle", "delay", "loss")
REGIONS = ("north", "south", "east", "west")
PRIORITIES = ("urgent", "raised", "normal", "minor")
CATEGORY_NAMES = ("electrical", "water", "mechanical", "delivery")
TEAM_NAMES = ("Falcon", "Otter", "Maple", "Harbor")
OFFICE_WORDS = (
    "ticket", "deadline", "category", "team", "owner", "device", "fault", "warranty", "service",
    "record", "system", "message", "customer", "work", "case", "desk", *ISSUES,
)  # fmt: skip

WORDS = (
    *THINGS, *COLOURS, *(word for kind in CATEGORIES.values() for word in kind),
    *PRODUCTS, *OFFICE_WORDS, *CATEGORY_NAMES, *TEAM_NAMES,
)  # fmt: skip
