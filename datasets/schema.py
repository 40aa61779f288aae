"""The tables of the shop: names, types, units and meanings, in one place.

The generator, the files, the data dictionary page and the tests all read this. `BIGINT`, `INTEGER`, `VARCHAR`,
`TIMESTAMP`, `DATE` and `DOUBLE` are the SQL types; all timestamps are UTC, to the second.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column. `refers` is "table.column" for a foreign key; `values` lists the words a VARCHAR may hold."""

    name: str
    type: str
    meaning: str
    unit: str = ""
    refers: str = ""
    values: tuple = ()
    nullable: bool = False


@dataclass(frozen=True)
class Table:
    """One table. `key` is the primary key; `grows` says what the scale factor does to it."""

    name: str
    meaning: str
    key: tuple
    grows: str
    columns: tuple

    def __getitem__(self, name):
        return next(column for column in self.columns if column.name == name)


FIXED, PROPORTIONAL = "the same at any scale", "in proportion"


def _id(name, meaning, refers="", **more):
    return Column(name, "INTEGER", meaning, refers=refers, **more)


def _time(name, meaning):
    return Column(name, "TIMESTAMP", meaning, unit="UTC")


STORES = Table("stores", "Where Larkmoor sells over the counter.", ("store_id",), FIXED, (
    _id("store_id", "number of the store"),
    Column("city", "VARCHAR", "city it stands in"),
    Column("country", "VARCHAR", "country", unit="ISO 3166 code"),
    Column("region", "VARCHAR", "AWS Region that serves the store"),
    Column("latitude", "DOUBLE", "position of the city centre, north is positive", unit="degrees"),
    Column("longitude", "DOUBLE", "position of the city centre, east is positive", unit="degrees"),
))

PRODUCTS = Table("products", "Every cheese on the counter.", ("product_id",), FIXED, (
    _id("product_id", "number of the cheese"),
    Column("name", "VARCHAR", "dairy and style"),
    Column("dairy", "VARCHAR", "who makes it"),
    Column("style", "VARCHAR", "kind of cheese"),
    Column("milk", "VARCHAR", "whose milk", values=("cow", "goat", "sheep", "buffalo")),
    Column("weight_g", "INTEGER", "weight of one piece", unit="grams"),
    Column("price_cents", "INTEGER", "price of one piece at the end of the year", unit="euro cents"),
))

PRICES = Table("prices", "Every price a cheese has had: it holds until the next one.", ("product_id", "valid_from"),
               FIXED, (
    _id("product_id", "the cheese", "products.product_id"),
    _time("valid_from", "first moment at this price"),
    Column("price_cents", "INTEGER", "price of one piece from then on", unit="euro cents"),
))

CUSTOMERS = Table("customers", "People with an account, in the order they signed up.", ("customer_id",), PROPORTIONAL, (
    _id("customer_id", "number of the customer"),
    Column("name", "VARCHAR", "given and family name, invented"),
    Column("email", "VARCHAR", "address in a domain that cannot receive mail"),
    _id("home_store_id", "store that packs the customer's orders", "stores.store_id"),
    Column("signed_up_on", "DATE", "day of sign-up, before the shop's year starts"),
))

LOYALTY_SCORES = Table("loyalty_scores", "Points earned in the shop's year.", ("customer_id",), PROPORTIONAL, (
    _id("customer_id", "the customer", "customers.customer_id"),
    Column("points", "INTEGER", "one for each full euro of all orders that were not refunded", unit="points"),
))

SESSIONS = Table("sessions", "Visits to the web shop, in the order they started.", ("session_id",), PROPORTIONAL, (
    Column("session_id", "BIGINT", "number of the session"),
    _id("customer_id", "who, empty when not signed in", "customers.customer_id", nullable=True),
    Column("device", "VARCHAR", "what it came from", values=("phone", "laptop", "tablet")),
    _time("started_at", "first page view"),
    _time("ended_at", "last page view"),
    Column("page_views", "INTEGER", "pages seen", unit="pages"),
))

PAGE_VIEWS = Table("page_views", "Each page seen in a session.", ("session_id", "view_no"), PROPORTIONAL, (
    Column("session_id", "BIGINT", "the session", refers="sessions.session_id"),
    Column("view_no", "INTEGER", "1 for the session's first page, then 2, 3, …"),
    _time("viewed_at", "when the page was seen (event time)"),
    _time("arrived_at", "when the shop heard of it (arrival time)"),
    Column("page", "VARCHAR", "kind of page", values=("product", "cart", "checkout")),
    _id("product_id", "cheese shown, on product pages", "products.product_id", nullable=True),
))

CARTS = Table("carts", "Sessions in which something was put into the cart.", ("session_id",), PROPORTIONAL, (
    Column("session_id", "BIGINT", "the session", refers="sessions.session_id"),
    _id("customer_id", "whose cart", "customers.customer_id"),
    Column("status", "VARCHAR", "what became of it", values=("ordered", "abandoned")),
    _time("updated_at", "last look at the cart"),
))

CART_ITEMS = Table("cart_items", "What is in each cart.", ("session_id", "product_id"), PROPORTIONAL, (
    Column("session_id", "BIGINT", "the cart", refers="carts.session_id"),
    _id("product_id", "the cheese", "products.product_id"),
    Column("quantity", "INTEGER", "how many", unit="pieces"),
    _time("added_at", "when it was put in"),
))

ORDERS = Table("orders", "Carts that were paid for, in the order their sessions started.", ("order_id",),
               PROPORTIONAL, (
    Column("order_id", "BIGINT", "number of the order"),
    Column("session_id", "BIGINT", "cart it came from", refers="carts.session_id"),
    _id("customer_id", "who ordered", "customers.customer_id"),
    _id("store_id", "store that packs it", "stores.store_id"),
    _time("ordered_at", "when it was paid for"),
    Column("status", "VARCHAR", "what became of it", values=("delivered", "collected", "refunded")),
    Column("total_cents", "INTEGER", "sum of its lines", unit="euro cents"),
))

ORDER_LINES = Table("order_lines", "What was ordered, one cheese a line.", ("order_id", "line_no"), PROPORTIONAL, (
    Column("order_id", "BIGINT", "the order", refers="orders.order_id"),
    Column("line_no", "INTEGER", "1 for the order's first line, then 2, 3, …"),
    _id("product_id", "the cheese", "products.product_id"),
    Column("quantity", "INTEGER", "how many", unit="pieces"),
    Column("unit_price_cents", "INTEGER", "price paid for one piece, the one valid when ordered", unit="euro cents"),
))

FRIDGES = Table("fridges", "The stores' fridges, each with a thermometer on the network.", ("fridge_id",), FIXED, (
    _id("fridge_id", "number of the fridge"),
    _id("store_id", "where it stands", "stores.store_id"),
    Column("kind", "VARCHAR", "what it is", values=("counter", "cold room", "cave")),
    Column("target_c", "DOUBLE", "temperature it is set to", unit="°C"),
))

FRIDGE_READINGS = Table("fridge_readings", "One reading per fridge every ten minutes, in the year's last days.",
                        ("fridge_id", "measured_at"), "days in proportion, from 3 to 365", (
    _id("fridge_id", "the fridge", "fridges.fridge_id"),
    _time("measured_at", "when it was measured (event time)"),
    _time("arrived_at", "when the shop heard of it (arrival time)"),
    Column("temperature_c", "DOUBLE", "temperature inside, one decimal", unit="°C"),
))

TABLES = {table.name: table for table in (
    STORES, PRODUCTS, PRICES, CUSTOMERS, LOYALTY_SCORES, SESSIONS, PAGE_VIEWS, CARTS, CART_ITEMS, ORDERS, ORDER_LINES,
    FRIDGES, FRIDGE_READINGS,
)}
