r"""What the TPU compiler plans for steps and predictors, without a TPU.

Compiles ahead of time for a topology; nothing runs. Needs the compiler only
(pip install 'jax[tpu]'):

TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu python benchmarks/tpu_plan.py

The figures are the compiler's own: planned memory, FLOPs and bytes of its cost
analysis, and the time that the chip's peaks imply for these. They are a plan,
not a measurement. The analysis counts the body of a loop once, and its own
estimate of time is left out: it is negative for some programs.
"""

import json
import math
import re
import time
from collections import Counter

import jax
import jax.numpy as jnp
import rich.console
import rich.table
import training_step
from absl import app, flags
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from ml_collections import config_flags

from solo_jax import building
from solo_jax.checkpoints import state

_CONFIG = config_flags.DEFINE_config_file(
  "config", "configs/solov2_coco.py", "A config."
)
_TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "TPU to compile for.")
_SIZES = flags.DEFINE_list("sizes", ["512x512"], "Inputs, HEIGHTxWIDTH.")
_PRECISIONS = flags.DEFINE_list(
  "precisions", ["bfloat16", "float32"], "Values of training.precision."
)
_PROGRAMS = flags.DEFINE_list(
  "programs", ["train", "predict"], "What to compile."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images per chip.")
_HLO = flags.DEFINE_string("hlo", None, "File for the last optimised program.")

# From the data sheet of v5e: bfloat16 operations and bytes per second.
PEAK_FLOPS, PEAK_BYTES = 197e12, 819e9
# Operations that are slow on a TPU.
SLOW = ("gather", "scatter", "sort", "while", "transpose", "copy")
ITEM_BYTES = {"pred": 1, "u8": 1, "s8": 1, "bf16": 2, "f32": 4, "s32": 4}
# dtype[shape]{minor-to-major:T(rows,lanes)...} of an instruction's result.
RESULT = re.compile(
  r"= (\w+)\[([\d,]+)\]\{([\d,]+):T\((\d+),(\d+)\)[^ ]*\} ([a-z-]+)\("
)


def lower(config, program: str, size: tuple[int, int], device: jax.Device):
  """Lowers a training step or a predictor for shapes alone."""
  batch_size = _BATCH_SIZE.value
  if program == "train":
    return training_step.lower_for_shapes(config, size, batch_size, device)
  with training_step.built_for(device):
    method = building.build_method(config)
    variables = state.variable_shapes(method.network, image_size=size)

    def predict(variables, image, image_size):
      outputs = method.network.apply(variables, image, image_size, train=False)
      return method.decode(outputs, image_size)

    shapes = (
      variables,
      jax.ShapeDtypeStruct((batch_size, *size, 3), jnp.uint8),
      jax.ShapeDtypeStruct((batch_size, 2), jnp.int32),
    )
    on_chip = SingleDeviceSharding(device)
    return jax.jit(predict, in_shardings=on_chip).lower(*shapes)


def read_plan(compiled: jax.stages.Compiled) -> dict[str, float]:
  """Returns the figures of a compiled program."""
  memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
  metrics = memory.output_size_in_bytes - memory.alias_size_in_bytes
  peak = memory.argument_size_in_bytes + memory.temp_size_in_bytes + metrics
  plan = {
    "peak_mib": peak / 2**20,
    "gflop": cost["flops"] / 1e9,
    "gigabytes": cost["bytes accessed"] / 1e9,
    "flop_ms": 1e3 * cost["flops"] / PEAK_FLOPS,
    "byte_ms": 1e3 * cost["bytes accessed"] / PEAK_BYTES,
  }
  text = compiled.as_text()
  counts = Counter(re.findall(r"[})] ([a-z-]+)\(", text))  # ) of tuples
  plan |= {name: counts[name] for name in SLOW}
  return plan | {"padding": padding_share(text)}


def padding_share(text: str) -> float:
  """Returns the share of padding in the bytes of all stored results.

  Results inside a fusion are never stored.
  """
  fused = set(re.findall(r"calls=(%[\w.-]+)", text))
  computations = text.split("\n\n")
  stored = [x for x in computations if x.split(" ", 1)[0] not in fused]
  used = held = 0
  for dtype, shape, order, rows, lanes, _ in RESULT.findall("".join(stored)):
    shape = [int(n) for n in shape.split(",")]
    by_minor = [shape[int(axis)] for axis in order.split(",")]
    item = ITEM_BYTES.get(dtype, 4)
    used += item * math.prod(shape)
    for axis, tile in zip((0, 1), (int(lanes), int(rows)), strict=True):
      if axis < len(by_minor):
        by_minor[axis] = -(-by_minor[axis] // tile) * tile
    held += item * math.prod(by_minor)
  return 1 - used / max(held, 1)


def main(_) -> None:
  jax.config.update("jax_enable_compilation_cache", False)
  topology = topologies.get_topology_desc(_TOPOLOGY.value, "tpu")
  device = topology.devices[0]
  rows = []
  for size in _SIZES.value:
    for precision in _PRECISIONS.value:
      for program in _PROGRAMS.value:
        config = _CONFIG.value.copy_and_resolve_references()
        config.training.precision = precision
        start = time.process_time()
        image_size = tuple(int(n) for n in size.split("x"))
        compiled = lower(config, program, image_size, device).compile()
        row = dict(program=program, size=size, precision=precision)
        row |= read_plan(compiled)
        row["compile_cpu_s"] = time.process_time() - start
        rows.append(row)
        print(json.dumps(row), flush=True)
        if _HLO.value is not None:
          with open(_HLO.value, "w") as file:
            file.write(compiled.as_text())
  table = rich.table.Table(*rows[0], title=f"Plan for a {device.device_kind}")
  for row in rows:
    table.add_row(
      *(f"{x:,.2f}" if isinstance(x, float) else str(x) for x in row.values())
    )
  rich.console.Console().print(table)


if __name__ == "__main__":
  app.run(main)
