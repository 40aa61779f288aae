"""The shop's data are the same everywhere, hang together, and hide what the dictionary page says they hide."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import pandas as pd
import pytest

import datasets.shop as generator
from datasets import DatasetError, ScaleError, files, load, write
from datasets.dictionary import PAGE, page_with_tables
from datasets.schema import PROPORTIONAL, TABLES
from datasets.shop import Shop, order_lines, started_at

ROOT = Path(__file__).parent.parent
COLUMNS = [(table.name, column) for table in TABLES.values() for column in table.columns]


@pytest.fixture(scope="module")
def shop():
    """The small tables, loaded once."""
    return {name: load(name) for name in TABLES}


def run(*arguments):
    """Run the command and return the finished process, its output as text."""
    command = [sys.executable, "-m", "datasets", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def utc(text):
    return pd.Timestamp(text, tz="UTC")


# The same data everywhere


def test_the_committed_files_are_what_the_generator_writes(tmp_path):
    """Regenerating the small files gives every one of them, and no other, to the byte; they are under 5 MB."""
    write(tmp_path, format="csv")
    made = {path.name: path.read_bytes() for path in tmp_path.glob("*.csv")}
    assert made == {path.name: path.read_bytes() for path in files.SMALL.iterdir()}
    assert sum(map(len, made.values())) < 5_000_000
    assert not any(b"\r" in content for content in made.values())


@pytest.mark.parametrize("name", TABLES)
def test_content_is_the_pinned_one_in_parts_of_any_size(name):
    """At scale 0.01 each table has the committed checksum, also when it is generated in parts of an odd size."""
    rows, sha256 = files.digest(Shop("0.01"), name, step=4_999)
    assert {"rows": rows, "sha256": sha256} == files.pinned_content()["0.01"][name]


def test_a_changed_value_is_noticed(tmp_path, monkeypatch):
    """A generator that computes one thing differently is stopped by the committed checksum."""
    monkeypatch.setattr(generator, "PRICES", generator.PRICES + 5)
    with pytest.raises(DatasetError, match="order_lines.*checksums.json"):
        write(tmp_path, only=["order_lines"])
    assert not (tmp_path / "order_lines").exists()


def test_parquet_holds_the_same_rows_as_the_committed_csv(tmp_path, shop):
    """Every table written as Parquet and read by DuckDB equals the committed small one, with the schema's types."""
    write(tmp_path, format="parquet")
    for name, table in TABLES.items():
        parts = duckdb.sql(f"SELECT * FROM read_parquet('{tmp_path}/{name}/*.parquet')")
        assert [str(type_) for type_ in parts.types] == [column.type for column in table.columns], name
        frame = parts.df()
        for column in table.columns:
            wanted = shop[name][column.name]
            if column.type == "TIMESTAMP":
                wanted = wanted.dt.tz_localize(None)
            same = frame[column.name].astype(wanted.dtype)
            pd.testing.assert_series_equal(same, wanted, obj=f"{name}.{column.name}")


# It hangs together


@pytest.mark.parametrize("name, column", COLUMNS, ids=lambda value: getattr(value, "name", value))
def test_columns_hold_what_the_schema_says(shop, name, column):
    """Types, words, NULLs and foreign keys are those of the schema."""
    values = shop[name][column.name]
    assert list(shop[name].columns) == [one.name for one in TABLES[name].columns]
    kinds = {"BIGINT": "int64", "INTEGER": "int64", "VARCHAR": "str", "DOUBLE": "float64", "DATE": "datetime64[us]",
             "TIMESTAMP": "datetime64[us, UTC]"}
    assert str(values.dtype) == ("Int64" if column.nullable else kinds[column.type])
    assert values.isna().any() == column.nullable
    if column.values:
        assert set(values) == set(column.values)
    if column.refers:
        table, key = column.refers.split(".")
        assert set(values.dropna()) <= set(shop[table][key])
    if column.unit == "euro cents":
        assert (values > 0).all()


def test_primary_keys_are_unique(shop):
    """No two rows of a table have the same key."""
    for name, table in TABLES.items():
        assert not shop[name].duplicated(list(table.key)).any(), name


def test_sessions_are_their_page_views(shop):
    """A session starts, ends and counts as its page views do, and its pages come one after the other."""
    views = shop["page_views"].groupby("session_id")
    summary = pd.DataFrame({"started_at": views.viewed_at.min(), "ended_at": views.viewed_at.max(),
                            "page_views": views.size()}).reset_index()
    pd.testing.assert_frame_equal(summary, shop["sessions"][summary.columns.tolist()])
    assert views.view_no.apply(list).map(lambda numbers: numbers == list(range(1, len(numbers) + 1))).all()
    assert views.viewed_at.apply(lambda times: times.is_monotonic_increasing).all()
    of_a_product = shop["page_views"].page == "product"
    assert (shop["page_views"].product_id.notna() == of_a_product).all()


def test_carts_become_orders_or_are_abandoned(shop):
    """Exactly the ordered carts have an order, of the same customer, at the moment of the checkout page."""
    carts, orders = shop["carts"].set_index("session_id"), shop["orders"].set_index("session_id")
    assert set(carts.index[carts.status == "ordered"]) == set(orders.index)
    assert (carts.customer_id[orders.index] == orders.customer_id).all()
    checkouts = shop["page_views"].query("page == 'checkout'").set_index("session_id").viewed_at
    assert checkouts.sort_index().equals(orders.ordered_at.sort_index().rename("viewed_at"))
    owners = shop["sessions"].set_index("session_id").customer_id
    assert (owners[carts.index] == carts.customer_id).all()


def test_order_lines_are_the_cart_at_the_price_of_the_moment(shop):
    """Lines are the cart's items, each was seen before, is priced by the history, and adds to total and points."""
    orders, keys = shop["orders"], ["session_id", "product_id", "quantity"]
    lines = shop["order_lines"].merge(orders, on="order_id")
    items = shop["cart_items"].merge(orders[["session_id"]], on="session_id")
    assert lines[keys].sort_values(keys).values.tolist() == items[keys].sort_values(keys).values.tolist()

    seen = shop["page_views"].dropna(subset="product_id").astype({"product_id": "int64"})
    matched = shop["cart_items"].merge(seen, on=["session_id", "product_id"])
    assert len(matched) == len(shop["cart_items"]) and (matched.added_at == matched.viewed_at).all()

    valid = pd.merge_asof(lines.sort_values("ordered_at"), shop["prices"].sort_values("valid_from"),
                          left_on="ordered_at", right_on="valid_from", by="product_id")
    assert (valid.unit_price_cents == valid.price_cents).all()

    lines["paid"] = lines.quantity * lines.unit_price_cents
    assert (lines.groupby("order_id").paid.sum().values == orders.total_cents.values).all()
    kept = orders[orders.status != "refunded"].groupby("customer_id").total_cents.sum() // 100
    scores = shop["loyalty_scores"].set_index("customer_id").points
    assert scores.equals(kept.reindex(scores.index, fill_value=0).rename("points"))


def test_time_runs_forwards(shop):
    """All sign-ups come before the year, all sessions start within it, and nothing arrives before it happens."""
    assert shop["customers"].signed_up_on.is_monotonic_increasing
    assert shop["customers"].signed_up_on.max() < pd.Timestamp("2024-12-01")
    assert (shop["page_views"].arrived_at >= shop["page_views"].viewed_at).all()
    assert (shop["fridge_readings"].arrived_at >= shop["fridge_readings"].measured_at).all()
    starts = shop["sessions"].started_at
    assert starts.is_monotonic_increasing and starts.between(utc("2024-12-01"), utc("2025-12-01"), "left").all()
    latest = shop["prices"].sort_values("valid_from").groupby("product_id").price_cents.last()
    assert latest.values.tolist() == shop["products"].price_cents.tolist()


# What is hidden in it; the numbers are the ones the page tells


def tells(*parts):
    """Assert that the page says each of these."""
    page = PAGE.read_text()
    for part in parts:
        assert part in page, f"book/data.md does not say {part!r}"


def test_there_is_a_best_seller(shop):
    """One cheese leads by far, and popularity falls as in Zipf's law: a tenth of the cheeses make most of the lines."""
    lines = shop["order_lines"]
    share = lines.product_id.value_counts(normalize=True)
    assert share.iloc[0] > 1.5 * share.iloc[1] > 2 * share.iloc[4]
    assert share.iloc[:24].sum() > 0.5
    best = share.index[0]
    in_orders = lines[lines.product_id == best].order_id.nunique() / len(shop["orders"])
    tells(f"{shop['products'].set_index('product_id').name[best]} (product {best}) is on {share.iloc[0]:.1%}",
          f"the next cheese has {share.iloc[1]:.1%}", f"in {in_orders:.1%} of all orders",
          f"make {share.iloc[:24].sum():.1%} of the lines")


def test_there_is_a_flash_sale(shop):
    """One hour has ten times the orders of any other, most of them for one cheese at half price."""
    by_hour = shop["orders"].ordered_at.dt.floor("h").value_counts()
    hour = by_hour.index[0]
    assert hour == utc("2025-11-28 18:00") and by_hour.iloc[0] > 10 * by_hour.iloc[1]
    lines = shop["order_lines"].merge(shop["orders"], on="order_id")
    cheese = lines[lines.ordered_at.dt.floor("h") == hour].product_id.value_counts()
    assert cheese.iloc[0] > by_hour.iloc[0] / 2
    prices = shop["prices"].query(f"product_id == {cheese.index[0]}").set_index("valid_from").price_cents
    half, full = prices[hour], prices[hour + pd.Timedelta(hours=1)]
    assert half * 2 == full == prices.iloc[-3]
    sale = lines[(lines.product_id == cheese.index[0]) & (lines.unit_price_cents == half)]
    assert (sale.ordered_at.dt.floor("h") == hour).all()
    tells(f"(product {cheese.index[0]}) was sold at half price, {half} cents in place of {full}",
          f"has {by_hour.iloc[0]} of the year's {len(shop['orders']):,} orders",
          f"no other hour has more than {by_hour.iloc[1]}")


def test_there_is_a_hot_customer(shop):
    """One customer orders several times as often as the next."""
    counts = shop["orders"].customer_id.value_counts()
    assert counts.iloc[0] > 3 * counts.iloc[1]
    tells(f"Customer {counts.index[0]}, a restaurant, placed {counts.iloc[0]} orders; the next customer has "
          f"{counts.iloc[1]}", f"gets {counts.iloc[0] / len(shop['orders']):.1%} of all orders")


def test_prices_change_and_one_dairy_stands_out(shop):
    """Every cheese but one dairy's changes its price by itself; that dairy raises all at once by a quarter."""
    prices = shop["prices"].merge(shop["products"][["product_id", "dairy"]], on="product_id")
    dear = prices[prices.dairy == "Copper Kettle"].pivot(index="product_id", columns="valid_from", values="price_cents")
    assert dear.columns.tolist() == [utc("2024-12-01"), utc("2025-06-01")]
    assert (dear.iloc[:, 1] / dear.iloc[:, 0]).between(1.24, 1.26).all()
    assert prices.groupby("product_id").size().median() == 4
    lines = shop["order_lines"].merge(shop["products"], on="product_id")
    more = (lines.quantity * lines.price_cents).sum() / (lines.quantity * lines.unit_price_cents).sum() - 1
    tells(f"the same lines would come to {more:.1%} more")


def test_events_arrive_late(shop):
    """Some phones' page views arrive hours late, and one store's fridges are cut off for five hours."""
    views = shop["page_views"].merge(shop["sessions"], on="session_id")
    delay = views.arrived_at - views.viewed_at
    late = delay > pd.Timedelta(minutes=10)
    assert 0.01 < late.mean() < 0.05 and set(views.device[late]) == {"phone"}
    tells(f"{late.mean():.1%} of the page views arrive more than ten minutes after they happened, up to "
          f"{delay.max() / pd.Timedelta(hours=1):.1f} hours")

    readings = shop["fridge_readings"].merge(shop["fridges"], on="fridge_id")
    silent = readings[(readings.arrived_at - readings.measured_at) > pd.Timedelta(hours=1)]
    assert set(silent.store_id) == {5}
    assert silent.arrived_at.between(utc("2025-11-30 09:00"), utc("2025-11-30 09:01")).all()
    heard = readings[(readings.store_id == 5)].arrived_at
    assert not heard.between(utc("2025-11-30 04:00"), utc("2025-11-30 09:00"), "left").any()


def test_one_fridge_fails(shop):
    """One fridge leaves its target by ten degrees, for six hours; all others stay within half a degree."""
    readings = shop["fridge_readings"].merge(shop["fridges"], on="fridge_id").merge(shop["stores"], on="store_id")
    above = (readings.temperature_c - readings.target_c).round(1)
    broken = readings[above > 0.5]
    assert set(broken.fridge_id) == {26}
    assert broken.measured_at.min() < utc("2025-11-29 01:30") and broken.measured_at.max() == utc("2025-11-29 06:50")
    tells(f"Fridge 26, the {broken.kind.iloc[0]} in {broken.city.iloc[0]}",
          f"It reached {broken.temperature_c.max()} °C", f"and {above.max()} °C above")


def test_orders_are_nearly_in_time_order(shop):
    """Order numbers follow time but for a few."""
    early = (shop["orders"].ordered_at.diff() < pd.Timedelta(0)).sum()
    assert 0 < early < len(shop["orders"]) / 100
    tells(f"{early} of {len(shop['orders']):,} orders")


# Scale


def test_ten_million_order_lines_at_scale_1():
    """Scale 1 has ten million order lines, and its last ones are those of its last orders."""
    full = Shop(1)
    assert files.pinned_content()["1.0"]["order_lines"]["rows"] >= 10_000_000
    lines = order_lines(full, full.orders - 10, full.orders)
    assert set(lines["order_id"]) == set(range(2_499_991, 2_500_001))


def test_more_scale_is_more_rows():
    """Ten times the scale is ten times the rows, to 3 percent, where a table grows with it, and never fewer."""
    small, large = (files.pinned_content()[scale] for scale in ("0.001", "0.01"))
    for name, table in TABLES.items():
        ratio = large[name]["rows"] / small[name]["rows"]
        assert abs(ratio - 10) < 0.3 if table.grows == PROPORTIONAL else 1 <= ratio < 10, name
    scales = ["0.0001", "0.0005", "0.001", "0.3", "1", "10"]
    sizes = [(shop.orders, shop.sessions, shop.customers, shop.days) for shop in map(Shop, scales)]
    assert sizes == sorted(sizes) and sizes[0] == (250, 1000, 50, 3) and sizes[-1][0] == 25_000_000


def test_sessions_keep_their_order_at_the_largest_scale():
    """No 64-bit overflow: at scale 10 the last sessions still start in order and at the end of the year."""
    largest = Shop(10)
    starts = pd.Series(pd.to_datetime(started_at(largest, pd.RangeIndex(10**8 - 10_000, 10**8).values), unit="s"))
    assert starts.is_monotonic_increasing
    assert starts.between("2025-11-30 22:00", "2025-12-01 00:00").all()


# The command


@pytest.mark.parametrize("scale", ["lots", "0", "-1", "nan", "1e9", "", "0.00001", None])
def test_a_bad_scale_is_told(scale):
    """A scale that is no number, or out of range, is refused in one sentence that names the range."""
    with pytest.raises(ScaleError, match="from 0.0001 to 10"):
        Shop(scale)


@pytest.mark.parametrize("arguments, said", [
    (["--out", "{tmp}/x", "--scale", "lots"], "the scale 'lots' is not a number"),
    (["--out", "{tmp}/x", "--only", "order_line"], "there is no table 'order_line': choose from stores"),
    (["--out", "{tmp}/file"], "cannot write to"),
    (["--out", "/proc/shop"], "cannot write to /proc/shop"),
    (["--out", "{tmp}/foreign"], "is not a manifest of the shop"),
])
def test_bad_input_gets_one_sentence(tmp_path, arguments, said):
    """The command says what was wrong, exits 1, and shows no traceback."""
    (tmp_path / "file").write_text("not a directory")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "manifest.json").write_text("[]")
    done = run(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == 1 and done.stdout == ""
    assert said in done.stderr and done.stderr.count("\n") == 1


def test_a_full_disk_is_told_before_work_starts(tmp_path, monkeypatch):
    """Without room for what was asked, nothing is written, and the message says how much is needed."""
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    with pytest.raises(DatasetError, match="has 100 MB free, and scale 1 may need 597 MB"):
        write(tmp_path, scale=1)
    assert list(tmp_path.iterdir()) == []
    assert write(tmp_path, only="stores") == {"stores": 12}


def test_a_second_run_changes_nothing_and_repairs_what_is_broken(tmp_path):
    """What is there is left alone; a cut file is written again; another scale or format is refused."""
    done = run("--out", tmp_path, "--only", "orders", "stores")
    assert done.returncode == 0 and "orders                   2,500 rows" in done.stdout, done.stderr
    part = tmp_path / "orders" / "0000.parquet"
    before, content = part.stat().st_mtime_ns, part.read_bytes()
    write(tmp_path)
    assert part.stat().st_mtime_ns == before
    assert set(json.loads((tmp_path / "manifest.json").read_text())["tables"]) == set(TABLES)
    part.write_bytes(content[:-100])
    write(tmp_path)
    assert duckdb.sql(f"SELECT count(*) FROM '{part}'").fetchone() == (2500,)
    with pytest.raises(DatasetError, match="holds the shop with scale 0.001"):
        write(tmp_path, scale="0.01")
    with pytest.raises(DatasetError, match="holds the shop with format parquet"):
        write(tmp_path, format="csv")


@pytest.mark.parametrize("stop, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_leaves_whole_tables_only(tmp_path, stop, code):
    """Stopped in the middle of a large table, the command keeps the finished table and leaves nothing of the other."""
    process = subprocess.Popen([sys.executable, "-m", "datasets", "--scale", "1", "--only", "stores", "order_lines",
                                "--out", tmp_path], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while not list(tmp_path.glob(".partial-*/order_lines/*.parquet")):
        assert time.monotonic() < deadline and process.poll() is None, "the table was never begun"
        time.sleep(0.02)
    os.kill(process.pid, stop)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code and "Traceback" not in errors, errors
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "stores"]
    assert list(json.loads((tmp_path / "manifest.json").read_text())["tables"]) == ["stores"]


# The page


def test_the_dictionary_page_describes_every_table_and_column():
    """The page's tables part is what the schema and the committed checksums say; the small counts are the files'."""
    assert page_with_tables(PAGE.read_text()) == PAGE.read_text()
    for name in TABLES:
        assert files.pinned_content()["0.001"][name]["rows"] == len(load(name))
