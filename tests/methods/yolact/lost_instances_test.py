"""Tests of solo_jax/methods/yolact/lost_instances.py; more: method_test.py."""

import dataclasses

import numpy as np

from solo_jax.methods.yolact.lost_instances import lost_instances
from tests.methods.yolact.method_test import make_batch


def test_without_instances_nothing_is_lost():
  batch = dataclasses.replace(make_batch(), valid=np.zeros((1, 4), bool))
  priors = np.array([[0, 0, 50, 50], [70, 70, 90, 90]], np.float32)
  found = lost_instances(batch, priors=priors, assignment="greedy")
  assert not np.any(found.is_lost)
  assert not np.any(found.sizes["priors"])


def test_fewer_priors_than_instances():
  """Of three instances the greedy assignment leaves the least overlap out."""
  priors = np.array([[0, 0, 50, 50], [78, 78, 86, 86]], np.float32)
  found = lost_instances(make_batch(), priors=priors, assignment="greedy")
  np.testing.assert_array_equal(found.is_lost[1], [False, False, True, False])
