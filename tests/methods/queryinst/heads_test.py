"""Tests of solo_jax/methods/queryinst/heads.py; values: network_test.py."""

import jax
import jax.numpy as jnp
import numpy as np

from solo_jax.methods.queryinst.heads import DynamicConv, MaskHead


def rng_array(*shape):
  return np.random.default_rng(sum(shape)).normal(size=shape).astype("f")


def test_a_dynamic_convolution_reads_its_own_query_and_box():
  module = DynamicConv(4, 2, is_projected=True, dtype=jnp.float32)
  query, pooled = rng_array(1, 3, 4), rng_array(1, 3, 2, 2, 4)
  before, variables = module.init_with_output(jax.random.key(0), query, pooled)
  assert before.shape == (1, 3, 4)
  for changed in ((query.copy(), pooled), (query, pooled.copy())):
    for x, y in zip(changed, (query, pooled), strict=True):
      if x is not y:
        x[0, 1] += 1
    after = module.apply(variables, *changed)
    differs = np.any(np.asarray(before != after)[0], axis=-1)
    np.testing.assert_array_equal(differs, [False, True, False])


def test_dynamic_kernels_are_made_from_the_query():
  """By hand: norms without effect on what is already normal."""
  module = DynamicConv(2, 2, is_projected=False, dtype=jnp.float32)
  query, pooled = np.ones((1, 1, 2), "f"), np.float32([[[[[3.0, 1.0]]]]])
  variables = module.init(jax.random.key(0), query, pooled)
  params = jax.tree.map(np.zeros_like, variables["params"])
  for name in ("norm_in", "norm_out"):
    params[name]["scale"] = np.ones(2, "f")
  # First kernel: identity; second: exchanges the channels.
  params["dynamic"]["bias"] = np.float32([1, 0, 0, 1, 0, 1, 1, 0])
  found = module.apply({"params": params}, query, pooled)
  # (3, 1) -> norm (1, -1) -> (1, 0) -> exchanged (0, 1) -> norm -> (0, 1).
  np.testing.assert_allclose(found[0, 0, 0, 0], [0, 1], atol=1e-4)


def test_statistics_are_those_of_valid_proposals():
  head = MaskHead(
    3, num_convs=1, dynamic_channels=2, axis_name=None, dtype=jnp.float32
  )
  query, pooled = rng_array(1, 3, 4), rng_array(1, 3, 2, 2, 4)
  valid = np.array([[True, True, False]])
  variables = head.init(jax.random.key(0), query, pooled, valid, train=False)

  def run(query, valid):
    return head.apply(
      variables, query, pooled, valid, train=True, mutable=["batch_stats"]
    )

  first, stats = run(query, valid)
  assert first.shape == (1, 3, 4, 4, 3)
  changed = query.copy()
  changed[0, 2] += 5
  second, again = run(changed, valid)
  np.testing.assert_allclose(first[0, :2], second[0, :2], rtol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, stats, again)
  _, all_of_them = run(changed, np.ones((1, 3), bool))
  assert np.any(
    stats["batch_stats"]["norm_0"]["mean"]
    != all_of_them["batch_stats"]["norm_0"]["mean"]
  )
