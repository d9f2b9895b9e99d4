"""Embeddings of known instances, for the tests of the groupings."""

import numpy as np
import pytest


class Scene:
  """Tags around known means: [Q, T], with the instance of each pixel [Q]."""

  def __init__(self, truth, means, noise, seed=0):
    rng = np.random.default_rng(seed)
    self.truth = np.asarray(truth)
    self.means = np.float32(means)
    noise = rng.normal(0, noise, (self.truth.size, self.means.shape[1]))
    self.embedding = np.float32(self.means[self.truth] + noise)
    self.foreground = self.truth > 0
    self.category = np.zeros(self.truth.size, np.int32)
    self.log_precision = np.zeros(self.truth.size, np.float32)  # radius 1

  def pixels(self, order=slice(None)):
    """The arguments common to all groupings, with pixels in an order."""
    return (
      self.embedding[order],
      self.log_precision[order],
      self.category[order],
      self.foreground[order],
    )

  def renumber(self, order):
    """Exchanges the tags of whole instances; the noise stays."""
    order = np.concatenate([[0], order])
    moved = self.means[order] - self.means
    self.embedding = np.float32(self.embedding + moved[self.truth])

  def pad(self, count):
    """Adds background with the tag of the largest instance."""
    self.truth = np.append(self.truth, np.zeros(count, int))
    tags = np.repeat(self.means[1:2], count, axis=0)
    self.embedding = np.concatenate([self.embedding, tags])
    self.foreground = self.truth > 0
    self.category = np.pad(self.category, (0, count))
    self.log_precision = np.pad(self.log_precision, (0, count))


@pytest.fixture
def scene():
  """Four instances of 5 to 20 pixels, well apart, in 60 pixels."""
  truth = np.repeat([0, 1, 2, 3, 4], [11, 20, 5, 14, 10])
  truth = np.random.default_rng(1).permutation(truth)
  means = [[0, 0], [0, 4], [4, 0], [4, 4], [-4, 1]]
  return Scene(truth, means, noise=0.1)


@pytest.fixture
def crowd():
  """Ten instances in 60 pixels, without noise or background."""
  sizes = [10, 9, 8, 7, 6, 6, 5, 4, 3, 2]
  means = np.stack([5 * np.arange(11), np.zeros(11)], axis=1)
  return Scene(np.repeat(np.arange(1, 11), sizes), means, noise=0)


def same_partition(truth, assignment):
  """Whether two labellings are equal up to renumbering; 0 stays 0."""
  pairs = set(zip(np.asarray(truth), np.asarray(assignment), strict=True))
  return len(pairs) == len(np.unique(truth)) == len(
    np.unique(assignment)
  ) and all((a == 0) == (b == 0) for a, b in pairs)


@pytest.fixture
def is_same_partition():
  return same_partition
