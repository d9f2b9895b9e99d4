"""Forward, backward and update of a network, in JAX and in PyTorch.

Both have the same weights, images, frozen parts, loss (the mean square of all
outputs) and SGD, so only the network and its gradient are compared.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from solo_jax import building, types
from solo_jax.checkpoints import state
from solo_jax.conversion import mapping, mmdet

try:
  import torch
  import torch_network
except ModuleNotFoundError:
  torch = None

LEARNING_RATE = 1e-3
MOMENTUM = 0.9
# Largest relative difference of the first loss, by precision.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}


def is_in_torch(config) -> bool:
  """Returns whether torch_network.py is the network of a config."""
  backbone = config.backbone
  return (
    torch is not None
    and config.method == "solov2"
    and backbone.name == "resnet"
    and backbone.block == "bottleneck"
    and tuple(backbone.stage_sizes) == (3, 4, 6, 3)
    and backbone.norm == "frozen"
    and backbone.frozen_stages == 1
  )


def make_jax_step(
  config, batch: types.Batch
) -> tuple[Callable[[], jax.Array], jax.stages.Lowered]:
  """Prepares training of the network on the first device.

  Args:
    config: The whole configuration.
    batch: Its images are used.

  Returns:
    take_step: Takes a step and returns its loss.
    lowered: The same step without remat, for counting operations.
  """
  optimizer = optax.sgd(LEARNING_RATE, MOMENTUM)
  image, image_size = jax.device_put((batch.image, batch.image_size))

  def make(config):
    network = building.build_method(config).network

    def loss_fn(params, batch_stats):
      variables = {"params": params, "batch_stats": batch_stats}
      outputs, _ = network.apply(
        variables, image, image_size, train=True, mutable=["batch_stats"]
      )
      leaves = jax.tree.leaves(outputs)
      return sum(jnp.mean(x.astype(jnp.float32) ** 2) for x in leaves)

    def step(params, opt_state, batch_stats):
      loss, gradient = jax.value_and_grad(loss_fn)(params, batch_stats)
      updates, opt_state = optimizer.update(gradient, opt_state)
      return optax.apply_updates(params, updates), opt_state, loss

    return network, jax.jit(step, donate_argnums=(0, 1))

  network, step = make(config)
  variables = state.init_variables(
    network, image_size=batch.image.shape[1:3], seed=0
  )
  if is_in_torch(config):
    variables = mapping.convert(torch_weights(config), mmdet.SOLOV2, variables)
  variables = jax.tree.map(jnp.array, variables)  # copies: donated
  params, batch_stats = variables["params"], variables["batch_stats"]
  opt_state = optimizer.init(params)

  plain = config.copy_and_resolve_references()
  plain.backbone.remat = ()
  lowered = make(plain)[1].lower(params, opt_state, batch_stats)

  def take_step():
    nonlocal params, opt_state
    params, opt_state, loss = step(params, opt_state, batch_stats)
    return loss

  return take_step, lowered


def torch_weights(config) -> dict[str, np.ndarray]:
  """Draws the weights that both networks start from."""
  torch.manual_seed(0)
  network = torch_network.SOLOv2(config.dataset.num_classes)
  return {name: x.numpy() for name, x in network.state_dict().items()}


def make_torch_step(config, batch: types.Batch) -> Callable:
  """Prepares the same in PyTorch: compiled on a GPU, as it is on a CPU.

  Args:
    config: The whole configuration.
    batch: Its images are used.

  Returns:
    Takes a step and returns its loss.
  """
  on_gpu = torch.cuda.is_available()
  device = "cuda" if on_gpu else "cpu"
  torch.manual_seed(0)
  network = torch_network.SOLOv2(config.dataset.num_classes)
  network.to(device, memory_format=torch.channels_last).eval()
  frozen = (network.backbone.conv1, network.backbone.bn1)
  for module in (*frozen, network.backbone.layer1):
    module.requires_grad_(False)
  mean, std = config.preprocessing.mean, config.preprocessing.std
  pixels = (batch.image - np.float32(mean)) / np.float32(std)
  for row, (height, width) in zip(pixels, batch.image_size, strict=True):
    row[height:], row[:, width:] = 0, 0
  pixels = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
  pixels = pixels.to(device, memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(
    [p for p in network.parameters() if p.requires_grad],
    lr=LEARNING_RATE,
    momentum=MOMENTUM,
  )
  is_bfloat16 = config.training.precision == "bfloat16"

  def loss_fn():
    with torch.autocast(device, torch.bfloat16, enabled=is_bfloat16):
      logits, kernels, feature = network(pixels)
    outputs = (*logits, *kernels, feature)
    return sum((x.float() ** 2).mean() for x in outputs)

  if on_gpu:
    torch.backends.cudnn.benchmark = True
    loss_fn = torch.compile(loss_fn)

  def take_step():
    optimizer.zero_grad(set_to_none=True)
    loss = loss_fn()
    loss.backward()
    optimizer.step()
    return loss.detach()

  return take_step


def check_losses(losses: dict[str, float], precision: str) -> None:
  """Checks that both computed the same.

  Args:
    losses: First loss by name.
    precision: Key of `TOLERANCE`.

  Raises:
    ValueError: If they differ by more than that.
  """
  expected = losses["solo_jax"]
  for name, loss in losses.items():
    if abs(loss - expected) > TOLERANCE[precision] * abs(expected):
      raise ValueError(f"solo_jax has the loss {expected}, {name} {loss}")
