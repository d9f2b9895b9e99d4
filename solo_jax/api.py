"""The Python interface: a trained model as a function of an image.

    from solo_jax.api import Predictor

    predictor = Predictor.from_checkpoint("workdirs/nuclei")
    found = predictor(image).above(0.3)  # image: for example [H, W, 3] uint8
    print([predictor.class_names[label] for label in found.labels])

Inputs and outputs are NumPy arrays.
"""

from solo_jax.inference.predictor import Predictor

__all__ = ["Predictor"]
