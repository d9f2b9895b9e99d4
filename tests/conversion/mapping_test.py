"""Tests of solo_jax/conversion/mapping.py."""

import numpy as np
import pytest

from solo_jax.conversion.mapping import (
  CONV,
  DENSE,
  Rule,
  conv_norm_rules,
  convert,
  dense_rules,
  dropped,
  flatten,
  layer_norm_rules,
  norm_rules,
  route,
  unflatten,
)
from solo_jax.errors import UserError

RULES = (
  Rule(r"conv(\d)\.weight", r"params/layer_\1/kernel", CONV),
  Rule(r"fc\.weight", "params/classifier/kernel", DENSE),
  Rule(r"fc\.bias", "params/classifier/bias"),
  *norm_rules("bn", "norm"),
  Rule(r"optimizer\..*", None),
)


def make_source():
  rng = np.random.default_rng(0)
  return {
    "conv1.weight": rng.standard_normal((4, 3, 2, 5)),
    "fc.weight": rng.standard_normal((6, 4)),
    "fc.bias": rng.standard_normal(6),
    "bn.weight": np.ones(4),
    "bn.bias": np.zeros(4),
    "bn.running_mean": np.full(4, 2.0),
    "bn.running_var": np.full(4, 3.0),
    "bn.num_batches_tracked": np.asarray(7),
    "optimizer.step": np.asarray(7),
  }


def make_target():
  shapes = {
    "params/layer_1/kernel": (2, 5, 3, 4),
    "params/classifier/kernel": (4, 6),
    "params/classifier/bias": (6,),
    "params/norm/scale": (4,),
    "params/norm/bias": (4,),
    "batch_stats/norm/mean": (4,),
    "batch_stats/norm/var": (4,),
  }
  return unflatten(
    {path: np.zeros(shape, np.float32) for path, shape in shapes.items()}
  )


def test_transposes_and_places():
  source = make_source()
  result = flatten(convert(source, RULES, make_target()))
  assert result.keys() == flatten(make_target()).keys()
  assert all(a.dtype == np.float32 for a in result.values())
  assert all(a.flags.c_contiguous for a in result.values())
  # Output channel 1, input channel 2, row 0, column 3.
  np.testing.assert_allclose(
    result["params/layer_1/kernel"][0, 3, 2, 1],
    source["conv1.weight"][1, 2, 0, 3],
    rtol=1e-6,
  )
  np.testing.assert_allclose(
    result["params/classifier/kernel"], source["fc.weight"].T, rtol=1e-6
  )
  np.testing.assert_array_equal(result["batch_stats/norm/var"], [3] * 4)


def test_every_problem_is_in_one_error():
  source = make_source()
  source["conv2.weight"] = source["conv1.weight"]  # no such layer
  source["head.weight"] = np.zeros(3)  # no rule
  source["fc.bias"] = np.zeros(5)  # wrong shape
  del source["bn.running_mean"]
  with pytest.raises(UserError, match="in 4 places") as error:
    convert(source, RULES, make_target())
  for line in (
    "conv2.weight (4, 3, 2, 5): the network has no params/layer_2/kernel",
    "head.weight (3,): matches no rule",
    "fc.bias: gives shape (5,), params/classifier/bias needs (6,)",
    "batch_stats/norm/mean (4,): not in the checkpoint",
  ):
    assert line in str(error.value)


def test_whole_numbers_are_no_weights():
  rule = Rule("a", "params/x")
  target = {"params": {"x": np.zeros(2, np.float32)}}
  for kind in (np.int64, np.uint8, bool):
    with pytest.raises(UserError, match="a: .* params/x needs floats"):
      convert({"a": np.ones(2, kind)}, [rule], target)


def test_many_problems_are_counted():
  arrays = {f"x{i}": np.zeros(1) for i in range(20_000)}
  with pytest.raises(UserError, match="and 19800 more") as error:
    convert(arrays, [], {})
  assert len(str(error.value)) < 10_000


def test_one_array_under_two_rules():
  rules = (*RULES, Rule(r"fc\..*", None))
  with pytest.raises(UserError, match=r"fc\.bias \(6,\): matches 2 rules"):
    convert(make_source(), rules, make_target())


def test_two_arrays_for_one_target():
  rules = (*RULES, Rule("other", "params/classifier/bias"))
  source = make_source() | {"other": np.zeros(6)}
  with pytest.raises(UserError, match=r"filled by each of .*fc.*other"):
    convert(source, rules, make_target())


def test_a_rule_matches_whole_names_only():
  source = make_source() | {"my.fc.bias": np.zeros(6)}
  with pytest.raises(UserError, match=r"my\.fc\.bias \(6,\): matches no rule"):
    convert(source, RULES, make_target())


def test_transform_of_another_rank_reports_the_shape():
  source = make_source() | {"fc.weight": np.zeros((6, 4, 1, 1))}
  with pytest.raises(UserError, match=r"gives shape \(6, 4, 1, 1\)"):
    convert(source, RULES, make_target())


def test_group_norm_has_no_running_statistics():
  targets = [rule.target for rule in layer_norm_rules("gn", "n")]
  assert targets == ["params/n/scale", "params/n/bias"]


def test_flatten_and_unflatten_are_inverse():
  tree = {"a": {"b": {"c": 1}, "d": 2}, "e": 3}
  assert flatten(tree) == {"a/b/c": 1, "a/d": 2, "e": 3}
  assert unflatten(flatten(tree)) == tree


def test_route_and_dropped_take_what_the_table_knows():
  rules = (*RULES, Rule(r"old\..*", None))
  source = make_source()
  extra = {"old.weight": np.ones(2), "strange": np.ones(3)}
  assert dropped(source | extra, rules) == [
    "bn.num_batches_tracked",
    "optimizer.step",
    "old.weight",
  ]
  paths = route(source | extra, rules)
  assert paths.keys() == flatten(make_target()).keys()
  np.testing.assert_array_equal(
    paths["params/classifier/kernel"], source["fc.weight"]
  )


def test_rules_of_a_deformable_convolution_with_group_norm():
  source = {
    f"tower.1.{name}": np.zeros(1)
    for name in (
      "conv.weight",
      "conv.conv_offset.weight",
      "conv.conv_offset.bias",
      "gn.weight",
      "gn.bias",
    )
  }
  rules = conv_norm_rules(r"tower\.(\d)\.conv", r"tower\.(\d)\.gn", r"convs_\1")
  assert set(route(source, rules)) == {
    "params/convs_1/conv/kernel",
    "params/convs_1/conv/offset/kernel",
    "params/convs_1/conv/offset/bias",
    "params/convs_1/norm/scale",
    "params/convs_1/norm/bias",
  }


def test_a_transform_may_be_a_function():
  rules = (Rule("a", "params/a", lambda x: x.reshape(2, -1)[::-1]),)
  target = {"params": {"a": np.zeros((2, 3))}}
  found = convert({"a": np.arange(6.0)}, rules, target)
  np.testing.assert_array_equal(found["params"]["a"], [[3, 4, 5], [0, 1, 2]])
  with pytest.raises(UserError, match=r"a \(5,\): does not fit params/a"):
    convert({"a": np.arange(5.0)}, rules, target)


def test_dense_layers():
  rng = np.random.default_rng(0)
  source = {"fc.weight": rng.normal(size=(2, 3)), "fc.bias": np.ones(2)}
  target = {"params": {"x": {"kernel": np.zeros((3, 2)), "bias": np.zeros(2)}}}
  found = convert(source, dense_rules("fc", "x"), target)
  np.testing.assert_array_equal(
    found["params"]["x"]["kernel"], source["fc.weight"].T
  )
