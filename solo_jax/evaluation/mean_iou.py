"""Mean IoU of semantic maps.

Shape letters: K classes.
"""

import numpy as np


class MeanIou:
  """Adds up images.

  Attributes:
    confusion: Pixels of class i predicted as class j. [K, K] int64.
    ignored: Label of pixels to ignore.
  """

  def __init__(self, num_classes: int, ignored: int = 255):
    self.confusion = np.zeros((num_classes, num_classes), np.int64)
    self.ignored = ignored

  def add(self, truth: np.ndarray, found: np.ndarray) -> None:
    """Compares two maps of an image.

    Args:
      truth: Labels, or `ignored`. [H, W] int.
      found: Labels. [H, W] int.

    Raises:
      ValueError: If the maps differ in size or a label is unknown.
    """
    if truth.shape != found.shape:
      raise ValueError(f"the maps have sizes {truth.shape} and {found.shape}")
    counted = truth != self.ignored
    truth, found = truth[counted].astype(int), found[counted].astype(int)
    num_classes = len(self.confusion)
    for name, labels in (("true", truth), ("predicted", found)):
      if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
          f"{name} labels go from {labels.min()} to {labels.max()}, classes "
          f"from 0 to {num_classes - 1}"
        )
    pairs = np.bincount(truth * num_classes + found, minlength=num_classes**2)
    self.confusion += pairs.reshape(num_classes, num_classes)

  @property
  def iou(self) -> np.ndarray:
    """Returns the IoU of each class, NaN if it never occurs. [K] float64."""
    hits = np.diag(self.confusion)
    union = self.confusion.sum(0) + self.confusion.sum(1) - hits
    return _divide(hits, union)

  @property
  def accuracy(self) -> np.ndarray:
    """Returns the accuracy per class, NaN without pixels. [K] float64."""
    return _divide(np.diag(self.confusion), self.confusion.sum(1))

  def summarize(self) -> dict[str, float]:
    """Returns averages over classes and pixels.

    Returns:
      mean_iou, of the classes that occur in the ground truth (detectron2);
      mean_iou_with_predicted, of those that occur in either (mmseg);
      frequency_weighted_iou, mean_accuracy and pixel_accuracy. NaN without
      pixels.
    """
    iou, accuracy = self.iou, self.accuracy
    share = _divide(self.confusion.sum(1), self.confusion.sum())
    is_true, occurs = self.confusion.sum(1) > 0, ~np.isnan(iou)
    return dict(
      mean_iou=_mean(iou[is_true]),
      mean_iou_with_predicted=_mean(iou[occurs]),
      frequency_weighted_iou=float(np.sum(iou[is_true] * share[is_true]))
      if is_true.any()
      else float("nan"),
      mean_accuracy=_mean(accuracy[is_true]),
      pixel_accuracy=float(
        _divide(np.trace(self.confusion), self.confusion.sum())
      ),
    )


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
  return np.where(y > 0, x / np.maximum(y, 1), np.nan)


def _mean(values: np.ndarray) -> float:
  return float(values.mean()) if values.size else float("nan")
