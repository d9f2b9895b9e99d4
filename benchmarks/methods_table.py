r"""Makes the table of docs/methods.md: all methods, one run, one machine.

python -m solo_jax.prepare --dataset=shapes --data_dir=data
python -m solo_jax.prepare --dataset=labeled_images --name=nuclei \
    --source=../shared/data/nuclei --data_dir=data
taskset -c 0 python benchmarks/methods_table.py --workdirs=workdirs \
    --train_minutes=5 --nuclei_minutes=15

A method is scored if WORKDIRS has a run of it, in a folder with the name of its
row (with '_nuclei' for nuclei); without a run it has no AP. With
--train_minutes and --nuclei_minutes, methods without a run are trained first,
each for as many steps as fit into these CPU minutes. Budgets are thus equal;
they count all threads, without compilation and evaluation. An interrupted run
is resumed. --only makes the runs of some methods and leaves the page unchanged.

CPU-ms are for one scene of 128 x 128, from pixels to masks, on one core.
Parameters are those of the config for drawn shapes. Published AP is from
solo_jax/published.csv.
"""

import dataclasses
import datetime
import os
import pathlib
import re
import time

import jax
import rich.progress
import train_throughput
from absl import app, flags

from solo_jax import published
from solo_jax.building import build_method, build_predictor
from solo_jax.checkpoints import state, store
from solo_jax.data.records import open_records, read_sample
from solo_jax.scoring.checkpoint import Request, evaluate_checkpoint
from solo_jax.training.loop import train_and_evaluate
from solo_jax.weights import load_config

WORKDIRS = flags.DEFINE_string("workdirs", "workdirs", "Folder of the runs.")
DATA_DIR = flags.DEFINE_string("data_dir", "data", "Prepared datasets.")
MINUTES = flags.DEFINE_float("train_minutes", None, "CPU minutes per method.")
NUCLEI_MINUTES = flags.DEFINE_float(
  "nuclei_minutes", None, "The same for nuclei."
)
ONLY = flags.DEFINE_list("only", [], "Rows to train; no table is written.")
PAGE = flags.DEFINE_string("page", "docs/methods.md", "Page with the markers.")

START, END = "<!-- start of the table -->", "<!-- end of the table -->"
PROBE_STEPS = 40
TIMED_IMAGES = 20
PASSES = 3


@dataclasses.dataclass(frozen=True)
class Row:
  """A method.

  Attributes:
    title: Name in the table.
    name: Folder of its run; '_nuclei' is appended for a run on nuclei.
    config: For drawn shapes.
    nuclei: Config for nuclei, if there is one.
    published: Name in published.csv of a ResNet-50; None if none is published.
  """

  title: str
  name: str
  config: str
  nuclei: str | None
  published: str | None


ROWS = (
  Row("SOLO", "solo", "solo_shapes.py", None, "solo_r50_3x"),
  Row(
    "Decoupled SOLO",
    "decoupled_solo",
    "decoupled_solo_shapes.py",
    None,
    "decoupled_solo_r50_3x",
  ),
  Row(
    "SOLOv2", "solov2", "solov2_shapes.py", "solov2_nuclei.py", "solov2_r50_3x"
  ),
  Row(
    "Associative embedding",
    "associative_embedding",
    "associative_embedding_shapes.py",
    "associative_embedding_nuclei.py",
    None,
  ),
  Row(
    "Mask R-CNN",
    "mask_rcnn",
    "mask_rcnn_shapes.py",
    "mask_rcnn_nuclei.py",
    "mask_rcnn_r50_3x_detectron2",
  ),
  Row(
    "Cascade Mask R-CNN",
    "cascade_mask_rcnn",
    "cascade_mask_rcnn_shapes.py:kind=cascade",
    None,
    "cascade_mask_rcnn_r50_3x_detectron2",
  ),
  Row(
    "HTC",
    "htc",
    "cascade_mask_rcnn_shapes.py:kind=htc",
    None,
    "htc_r50_20e_mmdet",
  ),
  Row(
    "PointRend",
    "point_rend",
    "point_rend_shapes.py",
    None,
    "point_rend_r50_3x_detectron2",
  ),
  Row("YOLACT", "yolact", "yolact_shapes.py", "yolact_nuclei.py", "yolact_r50"),
  Row(
    "Mask2Former",
    "mask2former",
    "mask2former_shapes.py",
    "mask2former_nuclei.py",
    "mask2former_r50",
  ),
  Row(
    "QueryInst",
    "queryinst",
    "queryinst_shapes.py",
    "queryinst_nuclei.py",
    "queryinst_r50_300_3x_mmdet",
  ),
)


def find_run(name: str) -> str | None:
  """Returns the folder of a run that has a checkpoint."""
  folder = pathlib.Path(WORKDIRS.value) / name
  checkpoints = folder / "checkpoints"
  is_here = checkpoints.is_dir() and any(checkpoints.iterdir())
  return str(folder) if is_here else None


def train(name: str, config_name: str, minutes: float) -> None:
  """Trains a config for CPU minutes in a folder, or resumes its run."""
  folder = os.path.join(WORKDIRS.value, name)
  if find_run(name):
    checkpoint = store.load(folder)
    steps = checkpoint.config.training.num_steps
    if checkpoint.step == steps:
      return
  else:
    config = with_data(load_config(config_name))
    used = train_throughput.measure_loop(config, PROBE_STEPS)["process_ms"]
    steps = count_steps(minutes, used)
    print(f"{name}: {used:.0f} CPU-ms per step, {steps} steps", flush=True)
  join = "," if ":" in config_name else ":"
  config = with_data(load_config(f"{config_name}{join}steps={steps}"))
  train_and_evaluate(config, folder)


def train_row(row: Row) -> None:
  """Trains a method as the flags ask."""
  if MINUTES.value:
    train(row.name, row.config, MINUTES.value)
  if NUCLEI_MINUTES.value and row.nuclei:
    train(f"{row.name}_nuclei", row.nuclei, NUCLEI_MINUTES.value)


def count_steps(minutes: float, milliseconds: float) -> int:
  """Returns how many steps fit into the minutes, a multiple of 10."""
  return max(10, 10 * round(minutes * 6e3 / milliseconds))


def with_data(config):
  """Returns a config with the records of --data_dir."""
  config = config.copy_and_resolve_references()
  config.dataset.data_dir = DATA_DIR.value
  return config


def evaluate(name: str) -> tuple[str, str]:
  """Returns the mask AP of a run and its steps; '' without a run."""
  folder = find_run(name)
  if folder is None:
    return "", ""
  with rich.progress.Progress(disable=True) as progress:
    metrics = evaluate_checkpoint(
      Request(path=folder, data_dir=DATA_DIR.value), progress
    )
  checkpoint = store.load(folder)
  steps, planned = checkpoint.step, checkpoint.config.training.num_steps
  of = f" of {planned:,}" if steps < planned else ""
  return f"{metrics.mask_AP:.3f}", f"{steps:,}{of}"


def measure_prediction(row: Row, images: list) -> tuple[float, int]:
  """Returns the least CPU-ms per image of a few passes, and parameter count."""
  config, folder = load_config(row.config), find_run(row.name)
  if folder:
    checkpoint = store.load(folder)
    config, variables = checkpoint.config, checkpoint.variables
  else:
    network = build_method(config).network
    variables = state.init_variables(
      network, image_size=config.transforms.image_size, seed=0
    )
  predictor = build_predictor(config, variables, batch_size=1)
  predictor(images[0])  # compiles
  times = []
  for _ in range(PASSES):
    start = time.process_time()
    for image in images:
      predictor(image)
    times.append(1e3 * (time.process_time() - start) / len(images))
  return min(times), state.count_parameters(variables["params"])


def make_line(row: Row, images: list) -> str:
  """Returns the line of a method, which is trained first if asked."""
  train_row(row)
  (ap, steps), (nuclei, _) = evaluate(row.name), evaluate(f"{row.name}_nuclei")
  milliseconds, parameters = measure_prediction(row, images)
  source = published.find(row.published) if row.published else None
  cells = (
    row.title,
    f"{source.ap:.1f}" if source else "",
    ap,
    steps,
    nuclei,
    f"{milliseconds:.0f}",
    f"{parameters / 1e6:.2f}",
  )
  return f"| {' | '.join(cells)} |"


def make_table(lines: list[str]) -> str:
  """Returns the table of the first methods and a note on how it was made."""
  done = ROWS[: len(lines)]
  missing = [row.title for row in done if find_run(row.name) is None]
  budget = "each run with its own number of steps"
  if MINUTES.value:
    budget = f"{MINUTES.value:g} CPU-min of training steps each"
  if NUCLEI_MINUTES.value:
    budget += f", {NUCLEI_MINUTES.value:g} on nuclei"
  notes = [f"One run on one core, {datetime.date.today()}; {budget}."]
  if missing:
    notes.append(f"Not trained: {', '.join(missing)}.")
  if len(done) < len(ROWS):
    notes.append(f"{len(ROWS) - len(done)} methods are not measured yet.")
  head = (
    "| method | AP, published (R50, COCO) | AP, shapes | steps | AP, nuclei "
    "| CPU-ms per image | parameters, M |",
    "|---|---|---|---|---|---|---|",
  )
  return "\n".join([*head, *lines, "", " ".join(notes)])


def insert(page: str, table: str) -> str:
  """Returns a page with the text between the markers replaced.

  Args:
    page: The whole file.
    table: Lines between the markers.

  Raises:
    ValueError: If the page lacks the markers.
  """
  pattern = f"({re.escape(START)}\n).*?({re.escape(END)})"
  text, number = re.subn(
    pattern, lambda m: f"{m[1]}\n{table}\n\n{m[2]}", page, flags=re.DOTALL
  )
  if number != 1:
    raise ValueError(f"expected {START} and {END} once, found {number}")
  return text


def main(argv: list[str]) -> None:
  """Trains where asked, measures all methods, and writes the table."""
  del argv
  os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
  records = open_records(DATA_DIR.value, "shapes", "validation")
  images = [read_sample(records[i]).image for i in range(TIMED_IMAGES)]
  for row in ROWS:
    if row.name in ONLY.value:
      train_row(row)
  if ONLY.value:
    return
  lines, page = [], pathlib.Path(PAGE.value)
  for row in ROWS:
    lines.append(make_line(row, images))
    print(lines[-1], flush=True)
    page.write_text(insert(page.read_text(), make_table(lines)))
    jax.clear_caches()


if __name__ == "__main__":
  app.run(main)
