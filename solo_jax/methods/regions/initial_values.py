"""Initial values of pyramid and heads, where the code bases differ."""

from typing import Any

from flax.linen import initializers

KERNELS = {
  # Variance 1 / inputs, as detectron2 and the pyramid of torchvision.
  "fan_in": initializers.variance_scaling(1.0, "fan_in", "uniform"),
  # Variance 2 / (inputs + outputs), as mmdet.
  "xavier": initializers.xavier_uniform(),
}
# With 'pytorch', the default of its layers, as torchvision leaves them.
DENSE = (*KERNELS, "pytorch")
MASK_LOGITS = {
  "small": initializers.normal(0.001),  # detectron2
  # Variance 2 / outputs, as torchvision and mmdet.
  "fan_out": initializers.variance_scaling(2.0, "fan_out", "normal"),
}


def dense_start(
  kind: str, num_inputs: int, std: float | None = None
) -> dict[str, Any]:
  """Returns how a dense layer of a box head starts.

  Args:
    kind: 'fan_in' or 'xavier', with biases of 0; or 'pytorch': weights and
      biases uniform in [-1, 1] / sqrt(num_inputs), also where `std` is given.
    num_inputs: Features that the layer reads.
    std: Standard deviation of normal weights, for logits and box codes; None
      for the layers before.

  Returns:
    Arguments of `nn.Dense`.

  Raises:
    ValueError: If `kind` is unknown.
  """
  if kind not in DENSE:
    raise ValueError(f"dense_init must be in {DENSE}, got {kind!r}.")
  if kind == "pytorch":
    bound = num_inputs**-0.5

    def uniform(key, shape, dtype):
      return initializers.uniform(2 * bound)(key, shape, dtype) - bound

    return dict(kernel_init=uniform, bias_init=uniform)
  kernel = KERNELS[kind] if std is None else initializers.normal(std)
  return dict(kernel_init=kernel, bias_init=initializers.zeros)
