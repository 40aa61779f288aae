"""The generator: each function returns the rows of one table, as a dict of column arrays.

All of them work on any range of rows, because every value is a function of a row number (see `bits`). Text from a
fixed list is its index, timestamps are Unix seconds, an empty value is 0, money is whole cents.

Sessions come in blocks of four. In each block one session ends in an order, another leaves its cart behind, two only
look. Hence order n comes from block n, and no table has to be kept in memory to make another.
"""

from datetime import UTC, datetime
from fractions import Fraction
from functools import cached_property

import numpy as np
from tqdm import tqdm

from datasets import catalogue as c
from datasets.bits import below, choose, draw, one_in

ORDERS_AT_SCALE_1 = 2_500_000
SMALLEST, LARGEST = Fraction(1, 10_000), Fraction(10)

STEP = 100_000  # blocks, and rows of the other tables, that are generated at a time
BLOCK = 4
LOOKED, ABANDONED, ORDERED = 0, 1, 2
MAX_PRODUCTS = 8
PRODUCTS_SEEN = {  # in sixteenths of the sessions: one product, two products, …
    LOOKED: [8, 4, 2, 2, 0, 0, 0, 0],
    ABANDONED: [6, 5, 3, 2, 0, 0, 0, 0],
    ORDERED: [1, 2, 3, 4, 3, 1, 1, 1],
}
READING_EVERY = 600


class ScaleError(ValueError):
    """The scale factor is not a number, or too small or too large."""


class Shop:
    """Larkmoor at one scale factor: how many there are of everything. Scale 1 has 2.5 million orders."""

    def __init__(self, scale):
        try:
            self.scale = Fraction(str(scale))
        except (ValueError, ZeroDivisionError):
            raise ScaleError(f"the scale {scale!r} is not a number: give one from 0.0001 to 10, such as 0.01") from None
        if not SMALLEST <= self.scale <= LARGEST:
            raise ScaleError(f"the scale {scale} is out of range: give one from 0.0001 to 10 "
                             "(1 is ten million order lines)")
        self.orders = int(self.scale * ORDERS_AT_SCALE_1)
        self.sessions = self.orders * BLOCK
        self.customers = self.orders // 5
        self.days = min(max(3, -int(-365 * self.scale // 1)), 365)

    @cached_property
    def points(self):
        """The loyalty points of every customer: full euros of all orders that were not refunded."""
        cents = np.zeros(self.customers + 1, np.int64)
        starts = range(0, self.orders, STEP)
        for first in tqdm(starts, desc="adding up loyalty points", unit="part", delay=2, leave=False):
            rows = orders(self, first, min(first + STEP, self.orders))
            kept = rows["status"] != 2
            np.add.at(cents, rows["customer_id"][kept], rows["total_cents"][kept])
        return cents[1:] // 100


def _hour_weights():
    """Return how many sessions start in each hour of the year, relative to each other."""
    weights = []
    for start in range(c.YEAR_START, c.YEAR_END, c.HOUR):
        at = datetime.fromtimestamp(start, UTC)
        weights.append(c.HOUR_WEIGHTS[at.hour] * c.WEEKDAY_WEIGHTS[at.weekday()] * c.MONTH_WEIGHTS[at.month - 1])
    part, whole = c.FLASH_SHARE
    flash = (c.FLASH_START - c.YEAR_START) // c.HOUR
    weights[flash] = 0
    weights[flash] = sum(weights) * part // (whole - part)
    return np.array(weights, np.uint64)


HOURS = _hour_weights()
HOURS_END = np.cumsum(HOURS)


def started_at(shop, session):
    """Return when sessions start, in Unix seconds; never earlier than the session before.

    Session n of N starts at a random point of the n-th of N equal parts of the year's weight.
    """
    jitter = draw("session.start", session) >> np.uint64(52)
    parts = np.uint64(shop.sessions << 12)
    spot, rest = np.divmod(((session.astype(np.uint64) << np.uint64(12)) | jitter) * HOURS_END[-1], parts)
    hour = np.searchsorted(HOURS_END, spot, side="right")
    fine = ((spot - HOURS_END[hour] + HOURS[hour]) << np.uint64(16)) + (rest << np.uint64(16)) // parts
    second = fine * np.uint64(c.HOUR) // (HOURS[hour] << np.uint64(16))
    return c.YEAR_START + hour.astype(np.int64) * c.HOUR + second.astype(np.int64)


def ordering_session(block):
    """Return the session of each block that ends in an order."""
    return block * BLOCK + below("block.ordered", block, BLOCK)


def outcome(session):
    """Return LOOKED, ABANDONED or ORDERED for each session."""
    block = session // BLOCK
    ordered = ordering_session(block)
    abandoned = block * BLOCK + (ordered + 1 + below("block.abandoned", block, BLOCK - 1)) % BLOCK
    return np.where(session == ordered, ORDERED, np.where(session == abandoned, ABANDONED, LOOKED))


def who(shop, session, result):
    """Return each session's customer: small numbers more often than large, one far too often, 0 when not signed in."""
    high = draw("session.customer.a", session) >> np.uint64(32)
    low = draw("session.customer.b", session) >> np.uint64(32)
    skewed = (high * low) >> np.uint64(32)
    customer = ((skewed * np.uint64(shop.customers)) >> np.uint64(32)).astype(np.int64) + 1
    customer[one_in("session.hot", session, 20)] = c.HOT_CUSTOMER
    customer[(result == LOOKED) & one_in("session.anonymous", session, 2)] = 0
    return customer


def products_seen(shop, session, result):
    """Return how many products each session looks at, and which: a row of MAX_PRODUCTS, the first so many count."""
    count = np.zeros(len(session), np.int64)
    for kind, weights in PRODUCTS_SEEN.items():
        of_kind = result == kind
        count[of_kind] = 1 + choose("session.products", session[of_kind], weights)
    total = len(c.STYLES) * len(c.DAIRIES)
    popularity = [10**6 // rank for rank in range(1, total + 1)]  # Zipf
    cells = session[:, None] * MAX_PRODUCTS + np.arange(MAX_PRODUCTS)
    seen = (c.BEST_SELLER - 1 + choose("session.product", cells, popularity) * 97) % total + 1  # 97: no common factor
    start = started_at(shop, session)
    in_sale = (start >= c.FLASH_START) & (start < c.FLASH_END) & (below("session.sale", session, 10) < 7)
    seen[in_sale, 0] = c.FLASH_PRODUCT
    for column in range(1, MAX_PRODUCTS):  # no cheese twice: take the next on the list until it is new
        while (again := (seen[:, :column] == seen[:, column:column + 1]).any(axis=1)).any():
            seen[again, column] = seen[again, column] % total + 1
    return count, seen


def viewed_at(shop, session, view):
    """Return when the `view`-th page (from 0) of each session was seen, in Unix seconds."""
    pace = 10 + below("session.pace", session, 80)
    pause = below("view.pause", session * 16 + view, pace)
    return started_at(shop, session) + view * pace + np.where(view == 0, 0, pause)


def _repeat(count):
    """Return for counts 2, 3: the owners 0, 0, 1, 1, 1 and the positions 0, 1, 0, 1, 2."""
    owner = np.repeat(np.arange(len(count)), count)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)


def _pieces(session, place):
    """Return how many pieces of the product at `place` of each session go into its cart."""
    return 1 + choose("item.quantity", session * MAX_PRODUCTS + place, [10, 4, 1, 1])


def _price_list():
    """Return product, start and cents of every price, sorted by product and start."""
    found = []
    for index in range(len(c.DAIRIES) * len(c.STYLES)):
        (dairy, percent), (_, _, usual) = c.DAIRIES[index // len(c.STYLES)], c.STYLES[index % len(c.STYLES)]
        moves = np.arange(3) + index * 3
        days = 40 + np.arange(3) * 100 + below("price.day", moves, 90)
        percents = 92 + below("price.by", moves, 21)
        changes = [(c.YEAR_START + int(day) * c.DAY, int(by)) for day, by in zip(days, percents)]
        if dairy == c.DEAR_DAIRY:
            changes = [(c.DEAR_FROM, 125)]
        cents = usual * percent // 500 * 5  # prices are in steps of five cents
        found.append((index + 1, c.YEAR_START, cents))
        for start, by in changes:
            before, cents = cents, cents * by // 500 * 5
            if cents != before:
                found.append((index + 1, start, cents))
        if index + 1 == c.FLASH_PRODUCT:
            found += [(index + 1, c.FLASH_START, cents // 2), (index + 1, c.FLASH_END, cents)]
    return np.array(found, np.int64).T


PRICES = _price_list()


def price_at(product, when):
    """Return the price in cents of each product at each moment."""
    starts = PRICES[0] * 2**32 + PRICES[1]
    return PRICES[2][np.searchsorted(starts, product * 2**32 + when, side="right") - 1]


def _home_store(customer):
    return 1 + choose("customer.store", customer, [share for *_, share in c.STORES])


def stores(shop, first, last):
    """Return rows of `stores`."""
    city, country, region, latitude, longitude, _ = zip(*c.STORES[first:last])
    return {"store_id": np.arange(first, last) + 1, "city": np.array(city), "country": np.array(country),
            "region": np.array(region), "latitude": np.array(latitude), "longitude": np.array(longitude)}


def products(shop, first, last):
    """Return rows of `products`."""
    number = np.arange(first, last)
    dairy = np.array([name for name, _ in c.DAIRIES], object)[number // len(c.STYLES)]
    style = np.array([name for name, *_ in c.STYLES], object)[number % len(c.STYLES)]
    animals = ["cow", "goat", "sheep", "buffalo"]
    milk = np.array([animals.index(animal) for _, animal, _ in c.STYLES])[number % len(c.STYLES)]
    return {"product_id": number + 1, "name": dairy + " " + style, "dairy": dairy, "style": style, "milk": milk,
            "weight_g": np.full(len(number), 250), "price_cents": price_at(number + 1, np.int64(c.YEAR_END))}


def prices(shop, first, last):
    """Return rows of `prices`."""
    product, start, cents = PRICES[:, first:last]
    return {"product_id": product, "valid_from": start, "price_cents": cents}


def customers(shop, first, last):
    """Return rows of `customers`."""
    number = np.arange(first, last)
    given = np.array(c.GIVEN_NAMES, object)[below("customer.given", number, len(c.GIVEN_NAMES))]
    family = np.array(c.FAMILY_NAMES, object)[below("customer.family", number, len(c.FAMILY_NAMES))]
    email = [f"{a}.{b}.{n}@example.com".lower() for a, b, n in zip(given, family, number + 1)]
    days = 5 * 365 - 1  # the five years before the shop's year
    signed_up = c.YEAR_START - c.DAY * (days - number * days // shop.customers)
    return {"customer_id": number + 1, "name": given + " " + family, "email": np.array(email, object),
            "home_store_id": _home_store(number + 1), "signed_up_on": signed_up}


def loyalty_scores(shop, first, last):
    """Return rows of `loyalty_scores`."""
    return {"customer_id": np.arange(first, last) + 1, "points": shop.points[first:last]}


def sessions(shop, first, last):
    """Return rows of `sessions`, for a range of blocks."""
    session = np.arange(first * BLOCK, last * BLOCK)
    result = outcome(session)
    count, _ = products_seen(shop, session, result)
    pages = count + result  # a cart has one page more, an order two
    return {"session_id": session + 1, "customer_id": who(shop, session, result), "device": _device(session),
            "started_at": started_at(shop, session), "ended_at": viewed_at(shop, session, pages - 1),
            "page_views": pages}


def _device(session):
    return choose("session.device", session, [6, 3, 1])


def page_views(shop, first, last):
    """Return rows of `page_views`, for a range of blocks."""
    session = np.arange(first * BLOCK, last * BLOCK)
    result = outcome(session)
    count, seen = products_seen(shop, session, result)
    owner, view = _repeat(count + result)
    session = session[owner]
    page = np.maximum(view - count[owner] + 1, 0)  # 0 product, 1 cart, 2 checkout
    viewed = viewed_at(shop, session, view)
    offline = (_device(session) == 0) & one_in("session.offline", session, 25)  # a phone without a network
    delay = np.where(offline, 600 + below("session.delay", session, 6 * c.HOUR),
                     below("view.delay", session * 16 + view, 4))
    product = np.where(page == 0, seen[owner, np.minimum(view, MAX_PRODUCTS - 1)], 0)
    return {"session_id": session + 1, "view_no": view + 1, "viewed_at": viewed, "arrived_at": viewed + delay,
            "page": page, "product_id": product}


def carts(shop, first, last):
    """Return rows of `carts`, for a range of blocks."""
    session = np.arange(first * BLOCK, last * BLOCK)
    result = outcome(session)
    session, result = session[result != LOOKED], result[result != LOOKED]
    count, _ = products_seen(shop, session, result)
    return {"session_id": session + 1, "customer_id": who(shop, session, result),
            "status": np.where(result == ORDERED, 0, 1), "updated_at": viewed_at(shop, session, count)}


def cart_items(shop, first, last):
    """Return rows of `cart_items`, for a range of blocks."""
    session = np.arange(first * BLOCK, last * BLOCK)
    result = outcome(session)
    session, result = session[result != LOOKED], result[result != LOOKED]
    count, seen = products_seen(shop, session, result)
    owner, place = _repeat(count)
    session = session[owner]
    return {"session_id": session + 1, "product_id": seen[owner, place], "quantity": _pieces(session, place),
            "added_at": viewed_at(shop, session, place)}


def order_lines(shop, first, last):
    """Return rows of `order_lines`, for a range of blocks."""
    session = ordering_session(np.arange(first, last))
    count, seen = products_seen(shop, session, np.full(len(session), ORDERED))
    ordered = viewed_at(shop, session, count + 1)
    owner, place = _repeat(count)
    product = seen[owner, place]
    return {"order_id": first + owner + 1, "line_no": place + 1, "product_id": product,
            "quantity": _pieces(session[owner], place), "unit_price_cents": price_at(product, ordered[owner])}


def orders(shop, first, last):
    """Return rows of `orders`, for a range of blocks."""
    block = np.arange(first, last)
    session = ordering_session(block)
    result = np.full(len(block), ORDERED)
    count, _ = products_seen(shop, session, result)
    lines = order_lines(shop, first, last)
    starts = np.flatnonzero(lines["line_no"] == 1)
    customer = who(shop, session, result)
    return {"order_id": block + 1, "session_id": session + 1, "customer_id": customer,
            "store_id": _home_store(customer), "ordered_at": viewed_at(shop, session, count + 1),
            "status": choose("order.status", block, [14, 5, 1]),
            "total_cents": np.add.reduceat(lines["quantity"] * lines["unit_price_cents"], starts)}


def fridges(shop, first, last):
    """Return rows of `fridges`."""
    number = np.arange(first, last)
    kind = number % len(c.FRIDGES)
    return {"fridge_id": number + 1, "store_id": number // len(c.FRIDGES) + 1, "kind": kind,
            "target_c": np.array([float(target) for _, target in c.FRIDGES])[kind]}


def fridge_readings(shop, first, last):
    """Return rows of `fridge_readings`: all fridges at one time, then all ten minutes later."""
    row = np.arange(first, last)
    total = len(c.STORES) * len(c.FRIDGES)
    fridge = row % total
    step = row // total
    measured = c.YEAR_END - shop.days * c.DAY + step * READING_EVERY
    key = (measured - c.YEAR_START) // READING_EVERY * total + fridge  # the same reading at every scale
    late = one_in("reading.late", key, 200)
    arrived = measured + np.where(late, 60 + below("reading.wait", key, 1800), below("reading.delay", key, 4))
    cut = (fridge // len(c.FRIDGES) + 1 == c.OFFLINE_STORE) & (arrived >= c.OFFLINE_FROM) & (arrived < c.OFFLINE_UNTIL)
    arrived[cut] = c.OFFLINE_UNTIL + below("reading.delay", key[cut], 4)
    target = np.array([10 * target for _, target in c.FRIDGES])[fridge % len(c.FRIDGES)]
    tenths = target + below("reading.a", key, 5) + below("reading.b", key, 5) - 4
    broken = (fridge + 1 == c.BROKEN_FRIDGE) & (measured >= c.BROKEN_FROM) & (measured < c.BROKEN_UNTIL)
    tenths[broken] += 3 * (measured[broken] - c.BROKEN_FROM) // READING_EVERY
    return {"fridge_id": fridge + 1, "measured_at": measured, "arrived_at": arrived, "temperature_c": tenths / 10}


def units(shop):
    """Return for each table its function and over how many rows (or blocks of sessions) that runs."""
    fridge_count = len(c.STORES) * len(c.FRIDGES)
    return {
        "stores": (stores, len(c.STORES)), "products": (products, len(c.STYLES) * len(c.DAIRIES)),
        "prices": (prices, PRICES.shape[1]), "customers": (customers, shop.customers),
        "loyalty_scores": (loyalty_scores, shop.customers), "sessions": (sessions, shop.orders),
        "page_views": (page_views, shop.orders), "carts": (carts, shop.orders), "cart_items": (cart_items, shop.orders),
        "orders": (orders, shop.orders), "order_lines": (order_lines, shop.orders),
        "fridges": (fridges, fridge_count),
        "fridge_readings": (fridge_readings, shop.days * c.DAY // READING_EVERY * fridge_count),
    }


def generate(shop, name, step=STEP):
    """Yield the rows of table `name` in parts: (share done in 0 … 1, dict of column arrays)."""
    rows, total = units(shop)[name]
    for first in range(0, total, step):
        last = min(first + step, total)
        yield last / total, rows(shop, first, last)
