"""The Python interface: a trained model as a function of an image.

    from solo_jax.api import Predictor

    predictor = Predictor.from_checkpoint("workdirs/nuclei")
    found = predictor(image).above(0.3)  # image: [H, W, 3] uint8, say
    print([predictor.class_names[label] for label in found.labels])

NumPy arrays go in and come out. Inference knows neither checkpoints nor the
config, which belong to training; here they meet.
"""

import os
from collections.abc import Sequence

from solo_jax.building import predictor_parts
from solo_jax.checkpoints import store
from solo_jax.inference import predictor


class Predictor(predictor.Predictor):
  """A predictor that knows what its labels mean.

  One predictor may be called from several threads at once. It runs on JAX's
  first device and compiles once for each padded shape;
  `inference.compilation_cache.use_compilation_cache` keeps the programs for the
  next start.

  Attributes:
    class_names: Name of each label.
    category_ids: The dataset's own id of each label.
  """

  def __init__(
    self,
    checkpoint: store.Checkpoint,
    *,
    batch_size: int = 1,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
  ):
    """Makes the predictor of a checkpoint; compiles on first use.

    Args:
      checkpoint: A loaded one.
      batch_size: Images a call of the network; a short batch is padded.
      scales: Test-time augmentation: sizes, relative to that of the config, at
        which the network sees each image.
      flip: Test-time augmentation: whether it sees them mirrored as well.

    Raises:
      ValueError: If the checkpoint's arrays do not fit its config, or its
        method has no test-time augmentation.
    """
    super().__init__(
      **predictor_parts(checkpoint.config, checkpoint.variables),
      batch_size=batch_size,
      scales=scales,
      flip=flip,
    )
    self.class_names = checkpoint.class_names
    self.category_ids = checkpoint.category_ids

  @classmethod
  def from_checkpoint(
    cls,
    path: str | os.PathLike,
    *,
    batch_size: int = 1,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
  ) -> "Predictor":
    """Loads a trained or converted model.

    Args:
      path: Folder of a run (its newest checkpoint is taken) or of one
        checkpoint, `workdir/checkpoints/<step>`.
      batch_size: See `__init__`.
      scales: See `__init__`.
      flip: See `__init__`.

    Returns:
      The predictor.

    Raises:
      FileNotFoundError: If there is no checkpoint; says what is there.
      ValueError: If the checkpoint is damaged, or its method has no test-time
        augmentation.
    """
    return cls(
      store.load(os.fspath(path)),
      batch_size=batch_size,
      scales=scales,
      flip=flip,
    )
