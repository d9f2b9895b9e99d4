"""Maps a training step over devices; no other file deals with this.

A step is written for one device against AXIS_NAME; here it becomes a program
over all devices. State is replicated without a leading device axis (4x cheaper
per step than the stacked form); batches are split along the first axis.
"""

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from solo_jax.errors import UserError

AXIS_NAME = "devices"


def connect(
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  *,
  timeout_seconds: int = 300,
) -> None:
  """Connects this process to the others of a run, before JAX is used.

  On a TPU pod, under Slurm and under Kubernetes, JAX detects values that are
  not given.

  Args:
    coordinator: HOST:PORT of process 0, the same in all processes.
    num_processes: Processes of the run.
    process_id: 0 to num_processes - 1, one each.
    timeout_seconds: How long to wait for the others.

  Raises:
    UserError: If only some of the three are given, if they are invalid, if
      none is given and JAX cannot detect them, or if process 0 does not answer
      in time. (JAX itself stops process 0, naming the missing ones.)
  """
  given = [x is not None for x in (coordinator, num_processes, process_id)]
  if any(given) and not all(given):
    raise UserError(
      "--coordinator, --num_processes and --process_id go together; got "
      f"{coordinator}, {num_processes} and {process_id}. Under Slurm, on a TPU "
      "pod or in Kubernetes, omit all three"
    )
  if all(given):
    if not re.fullmatch(r"\S+:\d+", coordinator):
      raise UserError(
        f"--coordinator={coordinator}: expected HOST:PORT of process 0, the "
        "same in all processes"
      )
    if not 0 <= process_id < num_processes:
      raise UserError(
        f"--process_id={process_id}: expected 0 to {num_processes - 1}, one "
        f"each for --num_processes={num_processes}"
      )
    if process_id:
      _await_coordinator(
        coordinator, num_processes, process_id, timeout_seconds
      )
  try:
    jax.distributed.initialize(
      coordinator,
      num_processes,
      process_id,
      initialization_timeout=timeout_seconds,
    )
  except ValueError as error:
    raise UserError(
      f"--distributed: JAX finds no other processes here ({error}). It "
      "supports TPU pods, Slurm (in a step of srun), Open MPI and Kubernetes "
      "(with the package of pip install 'jax[k8s]'). Elsewhere pass "
      "--coordinator, --num_processes and --process_id; for one process omit "
      "--distributed"
    ) from error


def _await_coordinator(
  coordinator: str, num_processes: int, process_id: int, timeout_seconds: int
) -> None:
  """Waits until process 0 listens: JAX would abort without naming it."""
  host, _, port = coordinator.rpartition(":")
  deadline = time.monotonic() + timeout_seconds
  while True:
    try:
      socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
      return
    except OSError as error:
      if time.monotonic() >= deadline:
        raise UserError(
          f"process {process_id} of {num_processes} did not reach process 0 "
          f"at {coordinator} within {timeout_seconds} s ({error}): check that "
          "it was started, that its host has this name and that the port is "
          "open"
        ) from error
    time.sleep(0.2)


def map_step(step: Callable[[Any, Any], tuple[Any, Any]]) -> Callable:
  """Returns a per-device step, mapped over all devices of all processes.

  Args:
    step: (state, batch) -> (state, metrics). Everything it returns must be the
      same on every device (pmean'ed or psum'ed over AXIS_NAME): only the first
      copy is used, and nothing checks this.

  Returns:
    (replicated state, split batch) -> (replicated state, metrics); the state
    passed in is donated and must not be used again.
  """
  return jax.pmap(
    step,
    axis_name=AXIS_NAME,
    in_axes=(None, 0),
    out_axes=None,
    donate_argnums=0,
  )


class CompileCounter:
  """Counts how often a function is traced, once per compiled program."""

  def __init__(self, function: Callable, on_compile: Callable[[], None]):
    """Wraps a function before it is mapped.

    Args:
      function: Function whose traces to count.
      on_compile: Called before each compilation.
    """
    self.num_compiled = 0
    self._function = function
    self._on_compile = on_compile
    self.__name__ = getattr(function, "__name__", "step")

  def __call__(self, *args: Any) -> Any:
    """Calls the function; runs only while it is traced."""
    self.num_compiled += 1
    self._on_compile()
    return self._function(*args)


def replicate(tree: Any) -> Any:
  """Returns arrays on every local device, in the layout `map_step` returns.

  Starting from any other layout would compile the step twice.
  """
  # A fresh copy: on a CPU device_put may alias host memory, and the step
  # donates its arguments.
  tree = jax.tree.map(lambda x: np.array(x, copy=True), tree)
  return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def split_batch(batch: Any) -> Any:
  """Returns this process's part of a batch, its transfer started.

  Args:
    batch: Pytree of numpy arrays [B, ...], B a multiple of the local devices.

  Returns:
    The arrays as [D, B / D, ...], one slice on each local device.
  """
  num_devices = jax.local_device_count()
  batch = jax.tree.map(
    lambda x: x.reshape(num_devices, -1, *x.shape[1:]), batch
  )
  return jax.device_put(batch, NamedSharding(_mesh(), PartitionSpec(AXIS_NAME)))


def fetch(tree: Any) -> Any:
  """Returns replicated arrays on the host, from this process's first device.

  Args:
    tree: Pytree of arrays that left a mapped step (or any plain arrays).

  Returns:
    The same tree of numpy arrays that own their memory: they stay right when
    the device arrays are donated afterwards.
  """
  shards = jax.tree.map(
    lambda x: x.addressable_shards[0].data if isinstance(x, jax.Array) else x,
    tree,
  )
  return jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(shards))


def check_batch_size(batch_size: int, accumulate: int) -> None:
  """Raises UserError if a global batch does not split over the devices."""
  num_devices = jax.device_count()
  if batch_size % (num_devices * accumulate):
    raise UserError(
      f"training.batch_size={batch_size} does not split evenly over "
      f"{num_devices} devices x optimizer.accumulate={accumulate} "
      f"micro-batches; use a multiple of {num_devices * accumulate}"
    )


def any_process(flag: bool) -> bool:
  """Returns whether the flag is set in any process; all must call it."""
  if jax.process_count() == 1:
    return flag
  return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


class LaggedFlag:
  """Reports whether a flag was set in any process, without waiting for a step.

  A query to the other processes runs on the devices after the training step
  that was just started; waiting for the answer would leave them idle until the
  next step. So each call returns the answer to the call before.
  """

  def __init__(self):
    """Starts with the flag set nowhere."""
    everywhere = Mesh(np.asarray(jax.devices()), (AXIS_NAME,))
    self._split = NamedSharding(everywhere, PartitionSpec(AXIS_NAME))
    self._any = jax.jit(
      jnp.any, out_shardings=NamedSharding(everywhere, PartitionSpec())
    )
    self._asked = None

  def __call__(self, flag: bool) -> bool:
    """Returns the flag of the call before; all must call it equally often.

    Args:
      flag: This process's.

    Returns:
      Whether it was set in any process at the call before, the same in all; for
      a single process, whether it is set now.
    """
    if jax.process_count() == 1:
      return flag
    asked = self._asked
    flags = np.full(jax.local_device_count(), flag)
    self._asked = self._any(
      jax.make_array_from_process_local_data(self._split, flags)
    )
    return asked is not None and bool(asked.addressable_data(0))


def gather_json(value: Any) -> list[Any]:
  """Returns the values of all processes; all must call it.

  Args:
    value: Any JSON value. Floats are preserved exactly.

  Returns:
    The value of each process.
  """
  if jax.process_count() == 1:
    return [value]
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  sizes = multihost_utils.process_allgather(np.asarray(len(text)))
  padded = np.pad(text, (0, int(sizes.max()) - len(text)))
  return [
    json.loads(row[:size].tobytes())
    for row, size in zip(
      multihost_utils.process_allgather(padded), sizes, strict=True
    )
  ]


def check_agreement(facts: dict[str, Any]) -> None:
  """Raises UserError if processes disagree; all must call it.

  Otherwise they would wait for each other forever or train different things.

  Args:
    facts: JSON values that must be equal in all processes, by name.
  """
  parts = gather_json(facts)
  differing = [
    f"  {name}: {parts[0].get(name)!r} in process 0, {part.get(name)!r} in "
    f"process {index}"
    for index, part in enumerate(parts)
    for name in sorted(parts[0].keys() | part.keys())
    if part.get(name) != parts[0].get(name)
  ]
  if differing:
    more = f"\n  and {len(differing) - 10} more" if differing[10:] else ""
    raise UserError(
      "the processes of this run disagree; start all with the same flags, "
      "the same data and one workdir that all of them can access:\n"
      + "\n".join(differing[:10])
      + more
    )


def _mesh() -> Mesh:
  return Mesh(np.asarray(jax.local_devices()), (AXIS_NAME,))
