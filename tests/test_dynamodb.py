"""DynamoDB: tables, items, transactions and streams on one Dynoxide per Region, behind the cloud's one address."""

import contextlib
import json
import signal
import subprocess
import sys
import textwrap
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import psutil
import pytest
from botocore.config import Config
from conftest import until

from minicloud import local


@pytest.fixture(scope="module")
def dynamodb(cloud):
    """A DynamoDB client of it."""
    return boto3.client("dynamodb")


@contextlib.contextmanager
def table(dynamodb, name: str, *keys: str, **options):
    """A table of string keys (the partition key, then the sort key) for the length of a `with` block; gives its name."""
    kinds = ("HASH", "RANGE")
    dynamodb.create_table(
        TableName=name, BillingMode="PAY_PER_REQUEST", **options,
        KeySchema=[{"AttributeName": key, "KeyType": kind} for key, kind in zip(keys, kinds)],
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys])
    dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})
    try:
        yield name
    finally:
        dynamodb.delete_table(TableName=name)


def read_all(dynamodb, name: str) -> list[dict]:
    """Return all items of a table."""
    return [item for page in dynamodb.get_paginator("scan").paginate(TableName=name) for item in page["Items"]]


def write_batches(dynamodb, name: str, items: list[dict]) -> None:
    """Put items, 25 to a request."""
    for begin in range(0, len(items), 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[begin:begin + 25]]
        assert dynamodb.batch_write_item(RequestItems={name: puts})["UnprocessedItems"] == {}


def test_a_region_does_not_see_the_tables_of_another(cloud, dynamodb):
    """Two Regions have a table of one name each: their items, ARNs and engines are their own."""
    west = boto3.client("dynamodb", region_name="us-west-2")
    with table(dynamodb, "customers", "id"), table(west, "customers", "id"):
        dynamodb.put_item(TableName="customers", Item={"id": {"S": "east only"}})
        assert read_all(west, "customers") == []
        for client, region in ((dynamodb, "us-east-1"), (west, "us-west-2")):
            about = client.describe_table(TableName="customers")["Table"]
            assert about["TableArn"] == f"arn:aws:dynamodb:{region}:123456789012:table/customers"
            assert client.list_tags_of_resource(ResourceArn=about["TableArn"])["Tags"] == []
            assert {"resource": f"dynamodb.{region}", "state": "available"}.items() <= next(
                row for row in cloud.resources() if row["zone"] == region).items()
    assert west.list_tables()["TableNames"] == []


def test_concurrent_conditional_increments_lose_none_and_double_none(dynamodb):
    """Four writers add 1 to a counter 1,000 times, each only if it is still what they read: it ends at 1,000."""
    def add(_):
        while True:
            seen = dynamodb.get_item(TableName="counters", Key={"id": {"S": "a"}}, ConsistentRead=True)["Item"]["n"]["N"]
            try:
                return dynamodb.update_item(
                    TableName="counters", Key={"id": {"S": "a"}}, UpdateExpression="SET n = :new",
                    ConditionExpression="n = :seen", ReturnValues="UPDATED_NEW",
                    ExpressionAttributeValues={":seen": {"N": seen}, ":new": {"N": str(int(seen) + 1)}}
                )["Attributes"]["n"]["N"]
            except dynamodb.exceptions.ConditionalCheckFailedException:
                lost.append(seen)

    lost: list[str] = []
    with table(dynamodb, "counters", "id"):
        dynamodb.put_item(TableName="counters", Item={"id": {"S": "a"}, "n": {"N": "0"}})
        with ThreadPoolExecutor(4) as pool:
            reached = sorted(map(int, pool.map(add, range(1000))))
        assert reached == list(range(1, 1001))
        assert read_all(dynamodb, "counters") == [{"id": {"S": "a"}, "n": {"N": "1000"}}]
    assert lost, "the writers never met"


def test_a_transaction_whose_condition_fails_changes_nothing(dynamodb):
    """Of three writes, the second's condition does not hold: none is made, and the reasons name that one."""
    def put(key, **more):
        return {"Put": {"TableName": "orders", "Item": {"id": {"S": key}, "by": {"S": "transaction"}}, **more}}

    with table(dynamodb, "orders", "id"):
        before = [{"id": {"S": "there"}, "by": {"S": "put"}}]
        dynamodb.put_item(TableName="orders", Item=before[0])
        with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as refused:
            dynamodb.transact_write_items(TransactItems=[
                put("first"), put("there", ConditionExpression="attribute_not_exists(id)"), put("third")])
        reasons = [reason["Code"] for reason in refused.value.response["CancellationReasons"]]
        assert reasons == ["None", "ConditionalCheckFailed", "None"]
        assert read_all(dynamodb, "orders") == before
        dynamodb.transact_write_items(TransactItems=[put("first"), put("third")])
        assert len(read_all(dynamodb, "orders")) == 3


def test_a_killed_engine_comes_back_with_all_that_it_acknowledged(cloud, dynamodb):
    """The engine is killed five times under load: no acknowledged item is lost, and clients see InternalServerError only."""
    impatient = boto3.client("dynamodb", config=Config(retries={"total_max_attempts": 1}))
    acknowledged, errors, ended = set(), [], threading.Event()

    def write(writer: int):
        number = 0
        while not ended.is_set():
            key = f"{writer}-{(number := number + 1)}"
            try:
                impatient.put_item(TableName="events", Item={"id": {"S": key}})
                acknowledged.add(key)
            except impatient.exceptions.InternalServerError as error:
                errors.append(error)

    with table(dynamodb, "events", "id"), ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(write, writer) for writer in range(4)]
        try:
            for _ in range(5):
                level = len(acknowledged)
                until(lambda level=level: len(acknowledged) > level + 100, "the writers have gone on")
                cloud.crash("dynamodb.us-east-1")
        finally:
            ended.set()
        for writer in writers:
            writer.result()
        assert acknowledged <= {item["id"]["S"] for item in read_all(dynamodb, "events")}
        assert len(errors) <= 5 * 4, errors
    with pytest.raises(local.CloudError, match="No engine of DynamoDB.*the ones here: dynamodb.us-east-1"):
        cloud.crash("dynamodb.eu-west-1")


def test_more_than_25_writes_in_a_batch_are_refused(dynamodb):
    """BatchWriteItem takes 25 items; 26 are refused as a whole."""
    puts = [{"PutRequest": {"Item": {"id": {"S": str(number)}}}} for number in range(26)]
    with table(dynamodb, "batches", "id"):
        with pytest.raises(dynamodb.exceptions.ClientError, match="ValidationException.*less than or equal to 25"):
            dynamodb.batch_write_item(RequestItems={"batches": puts})
        assert read_all(dynamodb, "batches") == []
        dynamodb.batch_write_item(RequestItems={"batches": puts[:25]})
        assert len(read_all(dynamodb, "batches")) == 25


def test_a_query_reads_its_partition_and_a_scan_the_table(dynamodb):
    """A Query counts and charges the 20 items of its key among 2,000; a Scan with the same condition, all of them."""
    items = [{"customer": {"S": str(number % 100)}, "order": {"S": f"{number:04}"}, "note": {"S": "x" * 200}}
             for number in range(2000)]
    with table(dynamodb, "sales", "customer", "order"):
        write_batches(dynamodb, "sales", items)
        about = {"TableName": "sales", "ExpressionAttributeValues": {":c": {"S": "7"}}, "ReturnConsumedCapacity": "TOTAL"}
        query = dynamodb.query(KeyConditionExpression="customer = :c", ScanIndexForward=False, **about)
        scan = dynamodb.scan(FilterExpression="customer = :c", **about)
        assert query["Items"] == [item for item in reversed(items) if item["customer"]["S"] == "7"]
        assert (query["Count"], query["ScannedCount"]) == (20, 20)
        assert (scan["Count"], scan["ScannedCount"]) == (20, 2000)
        size = sum(len(name) + len(value["S"]) for item in query["Items"] for name, value in item.items())
        assert query["ConsumedCapacity"]["CapacityUnits"] == -(-size // 4096) / 2  # eventually consistent: half of each 4 KB
        assert scan["ConsumedCapacity"]["CapacityUnits"] > 50 * query["ConsumedCapacity"]["CapacityUnits"]


def test_a_stream_has_every_change_once_in_order_with_both_images(dynamodb):
    """What happened to an item is in the stream of its table: INSERT, MODIFY and REMOVE, with what it was and became."""
    streams = boto3.client("dynamodbstreams")
    with table(dynamodb, "stock", "id", StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}):
        arn = dynamodb.describe_table(TableName="stock")["Table"]["LatestStreamArn"]
        assert arn.startswith("arn:aws:dynamodb:us-east-1:123456789012:table/stock/stream/")
        dynamodb.execute_statement(Statement="INSERT INTO stock VALUE {'id': ?, 'n': ?}", Parameters=[{"S": "a"}, {"N": "1"}])
        dynamodb.execute_statement(Statement="UPDATE stock SET n = 2 WHERE id = ?", Parameters=[{"S": "a"}])
        dynamodb.delete_item(TableName="stock", Key={"id": {"S": "a"}})
        shard, = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
        iterator = streams.get_shard_iterator(StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        records = streams.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
        told = [(record["eventName"], *(record["dynamodb"].get(image, {}).get("n", {}).get("N")
                                        for image in ("OldImage", "NewImage"))) for record in records]
        assert told == [("INSERT", None, "1"), ("MODIFY", "1", "2"), ("REMOVE", "2", None)]
        assert {record["awsRegion"] for record in records} == {"us-east-1"}


def test_an_operation_that_the_engine_lacks_is_named(dynamodb):
    """An operation beyond the engine is refused with its name, and the connection goes on."""
    with pytest.raises(dynamodb.exceptions.ClientError, match="NotImplemented.*minicloud does not have dynamodb.ListImports"):
        dynamodb.list_imports()
    assert dynamodb.list_tables()["TableNames"] == []


def test_a_client_that_has_gone_leaves_nothing_in_the_cloud(cloud, dynamodb):
    """Connections of ten clients, each with its link to the engine, are closed when the clients are."""
    process = psutil.Process(cloud._process.pid)
    dynamodb.list_tables()
    files, threads = process.num_fds(), process.num_threads()
    for _ in range(10):
        client = boto3.client("dynamodb")
        client.list_tables()
        assert process.num_fds() > files
        client.close()
    until(lambda: process.num_fds() <= files and process.num_threads() <= threads, "their threads and connections are gone")


def test_moto_answers_where_the_engine_is_not_installed():
    """Without Dynoxide a table works all the same, and `cloud` says who answers and what to do."""
    code = ("import sys; sys.prefix = '/nowhere'; from minicloud.server import serve_foreground; "
            "serve_foreground('us-east-1')")
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        url = process.stdout.readline().strip().partition("=")[2]
        with table(boto3.client("dynamodb", "us-east-1", endpoint_url=url), "customers", "id"):
            row, = json.load(urllib.request.urlopen(f"{url}/minicloud/resources"))
        assert row["resource"] == "dynamodb" and row["engine"].startswith("moto") and "`make book`" in row["state"]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_nothing_is_left_when_the_kernel_is_killed():
    """SIGKILL of a kernel whose cloud has engines in two Regions: they, the cloud and its directory are gone."""
    kernel = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import boto3, time
        from minicloud import connect
        cloud = connect()
        for region in ("us-east-1", "us-west-2"):
            boto3.client("dynamodb", region_name=region).list_tables()
        print(cloud._process.pid, cloud.run, flush=True)
        time.sleep(600)
        """)], stdout=subprocess.PIPE, text=True)
    pid, run = kernel.stdout.readline().split()
    processes = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children(recursive=True)]
    assert [process.name() for process in processes].count("dynoxide") == 2
    kernel.kill()
    kernel.wait()
    until(lambda: not any(p.is_running() and p.status() != "zombie" for p in processes), "its processes are gone")
    until(lambda: not Path(run).exists(), "its run directory is gone")
