import pytest
from jax.sharding import PartitionSpec as P

from sam_jax.training.partition import Rule, parse

DENSE, BIAS = "params.Dense_0.kernel", "params.Dense_0.bias"


@pytest.mark.parametrize(
    ("sizes", "shape", "expected"),
    [
        ((2, 1), (8, 6), P("fsdp")),
        ((2, 1), (6, 8), P(None, "fsdp")),
        ((2, 1), (8, 8), P(None, "fsdp")),  # of equal ones the last
        ((4, 2), (8, 6), P("fsdp", "tensor")),
        ((4, 2), (6, 9), P("tensor")),  # 4 divides neither
        ((1, 2), (6, 9), P("tensor")),
        ((5, 1), (8, 6), P()),
        ((2, 2), (3, 12, 8, 4), P(None, "fsdp", "tensor")),
        ((2, 1), (4,), P()),  # small
        ((1, 1), (64, 64), P()),
        ((2, 2), (), P()),
    ],
)
def test_the_largest_dimensions_that_divide_are_sharded(sizes, shape, expected):
    assert Rule(sizes, min_size=5).spec(DENSE, shape) == expected


def test_the_first_rule_found_in_a_name_holds_before_sizes():
    given = parse(["Dense_0.kernel=tensor,-", "kernel=-,fsdp", r"\.bias$=-"])
    rule = Rule((2, 2), 0, given)
    assert rule.spec(DENSE, (8, 6)) == P("tensor")
    assert rule.spec("params.Dense_1.kernel", (8, 6)) == P(None, "fsdp")
    assert rule.spec("opt_state.0.trace.Dense_0.kernel", (8, 6)) == P("tensor")
    assert rule.spec(BIAS, (8,)) == P()
    # Something smaller that an optimiser keeps: by its size.
    assert rule.spec("opt_state.0.row.Dense_0.kernel", (8,)) == P("fsdp")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kernel", r"the rule 'kernel'; give PATTERN=AXIS"),
        ("=fsdp", r"the rule '=fsdp'; give PATTERN"),
        ("ker[nel=fsdp", r"'ker\[nel=fsdp' \(unterminated character set"),
        ("kernel=fsdp,data", r"axis 'data' in 'kernel=fsdp,data'.*one of fsdp, tensor"),
        ("kernel=", r"axis '' in 'kernel='"),
        ("kernel=fsdp,fsdp", r"axis 'fsdp' twice"),
    ],
)
def test_what_is_no_rule_is_refused_in_a_line(rule, message):
    with pytest.raises(ValueError, match=message) as error:
        parse([rule])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("kernel=fsdp,-", None),
        ("weight=fsdp", "weight=fsdp is the first to name none of the parameters"),
        ("bias=fsdp,-", r"2 dimensions for params.Dense_0.bias of shape \(6,\); give"),
        ("kernel=-,fsdp", r"shards 6 of params.Dense_0.kernel \(8, 6\) over 4 devices"),
    ],
)
def test_rules_are_checked_against_the_parameters(rule, message):
    checked = Rule((4, 1), 0, parse([rule]))
    shapes = {DENSE: (8, 6), BIAS: (6,)}
    if message is None:
        checked.check(shapes)
    else:
        with pytest.raises(ValueError, match=message):
            checked.check(shapes)


def test_a_rule_that_an_earlier_one_leaves_nothing_is_refused():
    rule = Rule((2, 1), 0, parse(["kernel=fsdp,-", "Dense_0.kernel=-,-"]))
    with pytest.raises(ValueError, match=r"Dense_0.kernel=-,- is the first to name n"):
        rule.check({DENSE: (8, 6), BIAS: (6,)})
