"""The models in the Aurora notebooks (the cells tagged `model`): a claim on one fails when a rule of the model is broken."""

import re
from pathlib import Path

import nbformat
import pytest

from minicloud import claims

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SCALING = {"MinCapacity": 0, "MaxCapacity": 8, "SecondsUntilAutoPause": 300}
API = {"SCALING": SCALING, "describe": lambda: {"ServerlessV2ScalingConfiguration": SCALING}, "changes": [{}] * 5, "refused": [None] * 5}


def run(notebook, last, rule, broken):
    """Run the model cells of a notebook up to the one that claims `last`, with `broken` in the place of `rule`."""
    cells = [re.sub(r"(?m)^%.*", "", cell.source)  # without IPython's magics
             for cell in nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", 4).cells if "model" in cell.metadata.get("tags", [])]
    assert sum(rule in source for source in cells) == 1, f"the rule {rule!r} is not in one cell of {notebook}"
    names = dict(API)
    for source in cells:
        exec(source.replace(rule, broken), names)
        if f'claim("{last}"' in source:
            return
    pytest.fail(f"no model cell of {notebook} claims {last}")


@pytest.mark.parametrize(("last", "rule", "broken"), [
    ("aurora-ha-six-nodes", "writes: int = 4", "writes: int = 3"),
    ("aurora-ha-six-nodes", "reads: int = 3", "reads: int = 4"),
    ("aurora-ha-six-nodes", '{"a": {0, 1}, "b": {2, 3}', '{"a": {0}, "b": {1, 2, 3}'),
    ("aurora-ha-six-nodes", "return max(versions)[2]", "return min(versions)[2]"),
    ("aurora-storage-distributed", "if version > group.copies", "if version < group.copies"),
    ("aurora-ha-selfheal", "if zlib.crc32(data) != checksum", "if not data"),
    ("aurora-storage-max", "(10 * GIB)", "(16 * GIB)"),
    ("aurora-storage-increment", "-(-size // (10 * GIB))", "1 + size // (10 * GIB)"),
])
def test_a_claim_on_the_storage_fails_when_its_rule_is_broken(last, rule, broken):
    """Quorum, zones, versions, repair, checksums, size of a segment: with another rule the claim does not hold."""
    with pytest.raises(claims.ClaimError, match=last):
        run("aurora-storage", last, rule, broken)


@pytest.mark.parametrize(("last", "rule", "broken"), [
    ("aurora-sls-autoscale", "math.ceil(2 * acus) / 2", "math.ceil(3 * acus) / 3"),
    ("aurora-use-unpredictable", "return max(wanted, now - down)", "return now"),
    ("aurora-sls-pay", "if low == 0 and idle > pause", "if idle > pause"),
    ("aurora-use-unpredictable", "0 if connected else idle + 1", "idle + 1"),
])
def test_a_claim_on_serverless_fails_when_its_rule_is_broken(last, rule, broken):
    """Half steps, going down again, a pause only at a minimum of 0 and without a connection: else the claim fails."""
    with pytest.raises(claims.ClaimError, match=last):
        run("aurora-serverless", last, rule, broken)
