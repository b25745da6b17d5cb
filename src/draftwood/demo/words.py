"""The words that the demo's worlds are made of: domains, columns and values.

All lists are the project's own. A domain names its entities (`plural/singular`, with a kind); a
kind says which columns an entity may have; a column says its type, its values and, where the
language has them, the words for its extremes ("oldest" for the highest age).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

ColumnType = Literal["int", "real", "text"]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers from `low` to `high` inclusive, `step` apart."""

    low: float
    high: float
    step: float


@dataclass(frozen=True, slots=True)
class ColumnWord:
    """What a column of this name holds, and the superlatives that speak of it."""

    type: ColumnType
    values: Numbers | tuple[str, ...]
    highest: str = ""
    lowest: str = ""


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing that can be a table: `plural` names the table, `singular` its key."""

    plural: str
    singular: str
    kind: str


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_PEOPLE = _words(
    "Ada Bruno Clara Dario Elin Farid Greta Hugo Ines Jonas Kira Leon Mila Nils Olga Pavel Rosa"
    " Sven Tara Ugo Vera Wanda Yara Zeno"
)
_TITLES = _words(
    "Amber Breeze Cedar Dawn Ember Falcon Grove Harbor Iris Jade Lagoon Maple Nova Onyx Pearl"
    " Quartz Raven Summit Tulip Umbra Velvet Willow Zephyr"
)
_CITIES = _words("Oslo Porto Lima Kyoto Cairo Turin Quito Delhi Bergen Malaga Boston Geneva")
_COUNTRIES = _words("Norway Portugal Peru Japan Egypt Italy Ecuador India Spain Canada")
_COLORS = _words("red blue green white black yellow")
_LEVELS = _words("low medium high")
_STATUS = _words("open closed pending active")
_GRADES = _words("gold silver bronze")
_MATERIALS = _words("wood steel glass stone paper")
_SEASONS = _words("spring summer autumn winter")
_DAYS = _words("monday tuesday friday sunday")
_SIZES = _words("small large huge tiny")
_LANGUAGES = _words("English French German Arabic Hindi Spanish")
_STYLES = _words("modern classic rustic urban simple")
_ROLES = _words("junior senior lead guest trainee")
_REGIONS = _words("north south east west center")

_YEARS = Numbers(1990, 2024, 1)
_ONES = Numbers(1, 20, 1)
_TENS = Numbers(10, 300, 10)
_HUNDREDS = Numbers(100, 5000, 100)
_SCORES = Numbers(1.0, 9.5, 0.5)

COLUMNS: Final[dict[str, ColumnWord]] = {
    # labels: every table has one of these
    "name": ColumnWord("text", _PEOPLE),
    "nickname": ColumnWord("text", _PEOPLE),
    "surname": ColumnWord("text", _PEOPLE),
    "title": ColumnWord("text", _TITLES),
    "label": ColumnWord("text", _TITLES),
    "code": ColumnWord("text", _TITLES),
    "brand": ColumnWord("text", _TITLES),
    # text with few distinct values: good for filters and groups
    "city": ColumnWord("text", _CITIES),
    "country": ColumnWord("text", _COUNTRIES),
    "color": ColumnWord("text", _COLORS),
    "status": ColumnWord("text", _STATUS),
    "risk": ColumnWord("text", _LEVELS),
    "priority": ColumnWord("text", _LEVELS),
    "medal": ColumnWord("text", _GRADES),
    "material": ColumnWord("text", _MATERIALS),
    "season": ColumnWord("text", _SEASONS),
    "weekday": ColumnWord("text", _DAYS),
    "size": ColumnWord("text", _SIZES),
    "language": ColumnWord("text", _LANGUAGES),
    "style": ColumnWord("text", _STYLES),
    "role": ColumnWord("text", _ROLES),
    "region": ColumnWord("text", _REGIONS),
    # numbers
    "age": ColumnWord("int", Numbers(18, 60, 1), "oldest", "youngest"),
    "height": ColumnWord("int", Numbers(140, 210, 2), "tallest", "shortest"),
    "weight": ColumnWord("int", _TENS, "heaviest", "lightest"),
    "salary": ColumnWord("int", _HUNDREDS, "best paid", "worst paid"),
    "experience": ColumnWord("int", _ONES, "most experienced", "least experienced"),
    "rating": ColumnWord("real", _SCORES, "best rated", "worst rated"),
    "score": ColumnWord("real", _SCORES),
    "quality": ColumnWord("real", _SCORES),
    "rank": ColumnWord("int", _ONES),
    "price": ColumnWord("int", _TENS, "most expensive", "cheapest"),
    "cost": ColumnWord("int", _TENS),
    "discount": ColumnWord("int", _ONES),
    "stock": ColumnWord("int", _TENS),
    "length": ColumnWord("int", _TENS, "longest", ""),
    "width": ColumnWord("int", _TENS, "widest", "narrowest"),
    "speed": ColumnWord("int", _TENS, "fastest", "slowest"),
    "power": ColumnWord("int", _HUNDREDS, "strongest", "weakest"),
    "year": ColumnWord("int", _YEARS, "latest", "earliest"),
    "start_year": ColumnWord("int", _YEARS),
    "end_year": ColumnWord("int", _YEARS),
    "birth_year": ColumnWord("int", _YEARS),
    "duration": ColumnWord("int", _TENS),
    "attendance": ColumnWord("int", _HUNDREDS),
    "budget": ColumnWord("int", _HUNDREDS),
    "revenue": ColumnWord("int", _HUNDREDS, "richest", "poorest"),
    "profit": ColumnWord("int", _HUNDREDS),
    "capacity": ColumnWord("int", _HUNDREDS),
    "population": ColumnWord("int", _HUNDREDS),
    "area": ColumnWord("int", _HUNDREDS, "largest", "smallest"),
    "distance": ColumnWord("int", _HUNDREDS, "farthest", "nearest"),
    "floor": ColumnWord("int", _ONES),
    "amount": ColumnWord("int", _HUNDREDS),
    "quantity": ColumnWord("int", _ONES),
    "tax": ColumnWord("int", _ONES),
    "delay": ColumnWord("int", _ONES),
    "members": ColumnWord("int", _TENS),
    "volume": ColumnWord("int", _TENS),
    "depth": ColumnWord("int", _TENS, "deepest", "shallowest"),
    "temperature": ColumnWord("int", _ONES, "hottest", "coldest"),
}

LABELS: Final = ("name", "nickname", "surname", "title", "label", "code", "brand")

KINDS: Final[dict[str, tuple[str, ...]]] = {
    "person": _words(
        "name nickname surname age height weight salary experience rating rank birth_year city"
        " country language role status"
    ),
    "place": _words(
        "name title code city country region area capacity population floor distance rating"
        " start_year style size depth temperature"
    ),
    "thing": _words(
        "title label code brand price cost weight length width stock quality color material"
        " size style power speed volume year country"
    ),
    "event": _words(
        "title label code year duration attendance budget score delay weekday season status"
        " priority start_year end_year city temperature"
    ),
    "group": _words(
        "name title label members budget revenue profit start_year end_year rank region country"
        " language style rating"
    ),
    "record": _words(
        "label code amount quantity tax discount delay priority risk status year weekday cost"
        " score medal"
    ),
}


def _entities(text: str) -> tuple[Entity, ...]:
    """Read `plural/singular:kind` items; without a singular, the plural less its s."""
    found = []
    for item in text.split():
        names, kind = item.split(":")
        plural, _, singular = names.partition("/")
        found.append(Entity(plural, singular or plural.removesuffix("s"), kind))
    return tuple(found)


DOMAINS: Final[dict[str, tuple[Entity, ...]]] = {
    "music": _entities(
        "singers:person concerts:event albums:thing bands:group stages:place tickets:record"
    ),
    "school": _entities(
        "students:person teachers:person courses:event rooms:place exams:record clubs:group"
    ),
    "shop": _entities(
        "customers:person orders:record products:thing stores:place brands:group sales:event"
    ),
    "travel": _entities(
        "pilots:person flights:event airports:place planes:thing airlines:group bookings:record"
    ),
    "health": _entities(
        "doctors:person patients:person visits:event clinics:place drugs:thing bills:record"
    ),
    "sports": _entities(
        "players:person matches/match:event teams:group arenas:place trophies/trophy:thing"
        " transfers:record"
    ),
    "farm": _entities(
        "farmers:person fields:place tractors:thing harvests:event unions:group loans:record"
    ),
    "film": _entities(
        "actors:person movies/movie:thing festivals:event studios:group theaters:place"
        " awards:record"
    ),
    "office": _entities(
        "workers:person projects:event offices/office:place laptops:thing companies/company:group"
        " invoices/invoice:record"
    ),
    "library": _entities(
        "readers:person authors:person books:thing branches/branch:place rentals:record"
        " lectures/lecture:event"
    ),
    "harbor": _entities(
        "captains:person ships:thing voyages/voyage:event ports:place fleets:group cargos:record"
    ),
    "kitchen": _entities(
        "cooks:person dishes/dish:thing dinners:event kitchens:place guilds:group reviews:record"
    ),
    "museum": _entities(
        "artists:person paintings:thing galleries/gallery:place exhibits:event donors:person"
        " gifts:record"
    ),
    "energy": _entities(
        "engineers:person turbines/turbine:thing plants:place tests:event suppliers:group"
        " repairs:record"
    ),
}
