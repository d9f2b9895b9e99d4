r"""Peak memory of the compiled training step, with and without remat.

Nothing runs and no array is created: the step is compiled for shapes only. XLA
reports the memory that it plans to allocate on a device; the script also prints
the memory of the values that the backbone keeps for the backward pass. A TPU is
not needed either, only its compiler (pip install 'jax[tpu]'):

TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python benchmarks/memory.py \
    --topology=v5e:2x2 --config.training.precision=bfloat16
JAX_PLATFORMS=cpu python benchmarks/memory.py

On the CPU remat saves nothing, because XLA merges the repeated computations;
docs/scaling.md has the figures for SOLOv2-R50. Allocations of libraries
(cuDNN's workspaces, Eigen's buffers) are not included. One compilation takes a
minute or more.
"""

import functools
import json
import time

import jax
import jax.numpy as jnp
import rich.console
import rich.table
import training_step
from absl import app, flags
from jax.experimental import topologies
from ml_collections import config_flags

from solo_jax import building, parallel

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_coco.py", "A config."
)
_SIZES = flags.DEFINE_list(
  "sizes", ["512x512", "800x1344"], "Network inputs, HEIGHTxWIDTH."
)
_BATCH_SIZES = flags.DEFINE_list(
  "batch_sizes", ["1", "2", "16"], "Images on each device."
)
_REMAT = flags.DEFINE_list(
  "remat", ["none", "1234"], "Stages of backbone.remat, as one word each."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology",
  None,
  "TPU to compile for, such as 'v5e:2x2'; default: the local device.",
)

MIB = 2**20


def measure(
  config,
  image_size: tuple[int, int],
  batch_size: int,
  remat: tuple[int, ...],
  device: jax.Device,
) -> dict[str, float]:
  """Compiles the step and returns what it allocates.

  Args:
    config: The whole configuration; `backbone.remat` is set here, and
      `network.remat_encoder` of methods that have it.
    image_size: Padded (height, width) of the network input.
    batch_size: Images on each device.
    remat: Stages.
    device: Device to compile for.

  Returns:
    MiB on a device: 'state' with the batch, as they are passed in;
    'temporary' at its highest; 'peak' of all (the new state takes the place of
    the donated one). And the CPU seconds of compiling.
  """
  config.backbone.remat = remat
  if "remat_encoder" in config.network:
    config.network.remat_encoder = bool(remat)
  lowered = training_step.lower_for_shapes(
    config, image_size, batch_size, device
  )
  start = time.process_time()
  # Allocation is planned before code is generated, which may thus be slow code.
  options = {}
  if device.platform == "cpu":
    options = {"xla_backend_optimization_level": 0}
  memory = lowered.compile(options).memory_analysis()
  state = memory.argument_size_in_bytes
  metrics = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return {
    "state": state / MIB,
    "temporary": memory.temp_size_in_bytes / MIB,
    "peak": (state + metrics + memory.temp_size_in_bytes) / MIB,
    "compile_cpu_s": time.process_time() - start,
  }


def backbone_keeps(
  config, image_size: tuple[int, int], remat: tuple[int, ...]
) -> float:
  """Counts what the backbone keeps of an image for the backward pass.

  Counts the values that the vjp of the program as written closes over, before
  compilation.

  Args:
    config: The whole configuration; `backbone.remat` is set here.
    image_size: Padded (height, width) of the network input.
    remat: Stages.

  Returns:
    MiB per image.
  """
  config.backbone.remat = remat
  backbone = building.build_method(config, parallel.AXIS_NAME).network.backbone

  def count(batch_size):
    image = jax.ShapeDtypeStruct((batch_size, *image_size, 3), jnp.float32)
    init = functools.partial(backbone.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)

    def make_backward(variables, image):
      def forward(params):
        return backbone.apply(
          {**variables, "params": params},
          image,
          train=True,
          mutable=["batch_stats"],
        )[0]

      return jax.vjp(forward, variables["params"])[1]

    backward = jax.eval_shape(make_backward, variables, image)
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(backward))

  # The parameters among it are the same for any batch.
  return (count(2) - count(1)) / MIB


def main(_) -> None:
  # A program read back from the cache has no memory analysis.
  jax.config.update("jax_enable_compilation_cache", False)
  device = jax.local_devices()[0]
  if _TOPOLOGY.value is not None:
    topology = topologies.get_topology_desc(_TOPOLOGY.value, "tpu")
    device = topology.devices[0]
  rows = []
  for size in _SIZES.value:
    image_size = tuple(int(n) for n in size.split("x"))
    for batch_size in map(int, _BATCH_SIZES.value):
      for word in _REMAT.value:
        remat = () if word == "none" else tuple(int(n) for n in word)
        start = time.perf_counter()
        mib = measure(_CONFIG.value, image_size, batch_size, remat, device)
        mib["backbone_keeps"] = batch_size * backbone_keeps(
          _CONFIG.value, image_size, remat
        )
        rows.append(dict(size=size, batch=batch_size, remat=word, **mib))
        seconds = time.perf_counter() - start
        print(f"{size}, batch {batch_size}, remat {word}: {seconds:.0f} s")
  # The seconds of compiling are in the JSON.
  names = [name for name in rows[0] if name != "compile_cpu_s"]
  table = rich.table.Table(*names, title=f"MiB on a {device.device_kind}")
  for row in rows:
    values = (row[name] for name in names)
    table.add_row(
      *(f"{x:,.0f}" if isinstance(x, float) else str(x) for x in values)
    )
  rich.console.Console().print(table)
  kind = device.device_kind
  print(json.dumps({"benchmark": "memory", "device": kind, "rows": rows}))


if __name__ == "__main__":
  app.run(main)
