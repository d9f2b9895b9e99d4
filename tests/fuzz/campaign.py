"""Prepares thousands of damaged data sets and watches what happens.

python tests/fuzz/campaign.py --count=10000

Case n is a function of n alone; `--start=n --count=1` runs it again. Every
case is read and checked as by the prepare command, and its records are read
back, augmented and packed as in training. Allowed are sound records next to
reported problems, or an error with a message for the user; see
solo_jax/cli.py. Any other exception, a write outside of the data directory
(an audit hook sees all of Python's) and memory beyond the limit are failures,
printed as JSON lines with their number.
"""

import argparse
import collections
import contextlib
import io
import json
import os
import pathlib
import resource
import shutil
import sys
import tempfile
import time
import traceback

import mutations
import numpy as np
import PIL.Image
import rich.console

from solo_jax import cli, prepare
from solo_jax.data import (
  annotations,
  augmentations,
  batching,
  builder,
  coco_instances,
  examples,
  label_pairs,
  labeled_images,
)
from solo_jax.data.findings import Findings
from solo_jax.data.mask_frames import ImageFrame
from solo_jax.data.mask_targets import MASK_RULES
from solo_jax.data.prepared_folder import make_features
from solo_jax.data.records import (
  Records,
  list_splits,
  read_sample,
  to_coco,
)
from solo_jax.errors import UserError
from solo_jax.media.reading import ImageReader

# Bytes by which one case may raise the peak of the process; images of more
# than MAX_PIXELS are refused.
MAX_RISE = 256 << 20
MAX_PIXELS = 2**20
# One case in this many goes through TFDS to disk and back; that takes ten times
# as long as reading, checking, encoding and decoding alone.
EVERY = 25
TOLERANCE = builder.Tolerance(max_lost=1.0)
FEATURES = make_features()
IMAGES = mutations.make_images()
IMAGE_SIZE = (32, 32)
ORIENT = "orient", dict(flip=0.5, vertical_flip=0.5, transpose=0.5)
RESIZES = (
  ("scale_jitter", dict(factor=(0.5, 2.0))),
  ("resize_short_side", dict(short_sides=(24, 32), max_side=32)),
)
COLOR = "color_jitter", dict(strength=0.4)


class Guard:
  """Sees every write of Python code outside of a folder."""

  WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
  CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link")
  CHANGES += ("os.symlink", "os.truncate", "os.chmod", "shutil.rmtree")

  def __init__(self, folder):
    self.folder = os.path.realpath(folder)
    self.is_on = False
    self.violations = []
    sys.addaudithook(self._see)

  def _see(self, event, arguments):
    if not self.is_on:
      return
    if event == "open":
      path, _, flags = arguments
      if isinstance(path, int) or not flags & self.WRITES:
        return
      paths = [path]
    elif event in self.CHANGES:
      paths = [x for x in arguments[:2] if isinstance(x, str | bytes)]
      if arguments[-1] not in paths and arguments[-1] not in (-1, None):
        return  # relative to an open folder, of which shutil.rmtree told
    else:
      return
    for path in map(os.fsdecode, paths):
      inside = os.path.realpath(path).startswith(self.folder)
      if not inside and path != os.devnull:
        self.violations.append(f"{event} {path}")


def write_coco(rng, folder, kind):
  """Writes a damaged COCO source; returns the paths of its two parts."""
  images = folder / "images"
  images.mkdir(parents=True)
  names = [str(x) for x in rng.choice(list(IMAGES), 2, replace=False)]
  files = {name: IMAGES[name] for name in names}
  files["深い 🦠.png"] = IMAGES["deep.png"]
  content = mutations.make_coco(rng, list(files))
  if kind == "image":
    name = names[rng.integers(2)]
    files[name] = mutations.mutate_image(rng, files[name])
    if rng.random() < 0.7:
      believe(content["images"][names.index(name)], files[name])
  for name, data in files.items():
    (images / name).write_bytes(data)
  text = mutations.dump(content)
  if kind == "annotations":
    text = mutations.dump(mutations.mutate_json(rng, content))
  elif kind == "bytes":
    if rng.random() < 0.3:
      text = mutations.mutate_bytes(rng, text)
    elif rng.random() < 0.02:
      text = text[:20] + b"[" * 200_000
    else:
      text = mutations.mutate_digits(rng, text)
  elif kind == "archive":
    images = folder / "images.zip"
    images.write_bytes(mutations.make_archive(rng, files))
  (folder / "a.json").write_bytes(text)
  if kind == "image":
    try:
      reader = ImageReader(max_pixels=MAX_PIXELS, exif="apply")
      for _ in reader.open(folder / "images" / name):
        pass
    except (OSError, UserError):
      pass
  return str(folder / "a.json"), str(images)


def believe(image, data):
  """Sets the size in an image's entry to the declared one."""
  try:
    with PIL.Image.open(io.BytesIO(data)) as found:
      image.update(height=found.height, width=found.width)
  except Exception:  # any error of Pillow for a damaged file
    pass


def write_labels(rng, folder, kind):
  """Writes damaged pairs of images and label images; returns their folder."""
  for part in ("images", "labels"):
    (folder / part).mkdir(parents=True)
  rows = []
  spoiled = rng.integers(3)
  for key in range(3):
    name = str(rng.choice([x for x in IMAGES if not x.endswith(".gif")]))
    data = IMAGES[name]
    suffix, labels = mutations.make_label_files(rng)
    if kind == "labels" and key == spoiled:
      if rng.random() < 0.5:
        data = mutations.mutate_image(rng, data)
      else:
        labels = mutations.mutate_image(rng, labels)
    suffix_of_image = name[name.rindex(".") :]
    (folder / "images" / f"{key}{suffix_of_image}").write_bytes(data)
    (folder / "labels" / f"{key}{suffix}").write_bytes(labels)
    rows.append(dict(id=str(key), split=["train", "val"][key % 2]))
  if kind == "index":
    text = mutations.dump(mutations.mutate_json(rng, rows))
    if rng.random() < 0.3:
      text = mutations.mutate_bytes(rng, text)
    (folder / "index.json").write_bytes(text)
  return folder


WRITERS = {
  "annotations": write_coco,
  "bytes": write_coco,
  "image": write_coco,
  "archive": write_coco,
  "labels": write_labels,
  "index": write_labels,
}


def prepare_coco(paths, data):
  """Runs the builder of a COCO source, prints the summary, reads records."""
  files = coco_instances.find_custom(*paths, max_pixels=MAX_PIXELS)
  return prepare_all(
    coco_instances.CocoInstances(
      data_dir=str(data),
      name="fuzz",
      splits={"train": files},
      tolerance=TOLERANCE,
    )
  )


def prepare_labels(folder, data):
  """Runs the builder of labeled images likewise."""
  return prepare_all(
    labeled_images.LabeledImages(
      data_dir=str(data),
      name="fuzz",
      source=label_pairs.find_source(str(folder), MAX_PIXELS),
      tolerance=TOLERANCE,
    )
  )


def prepare_all(source_builder):
  """Builds, prints the summary and yields the records that were written."""
  path = source_builder.prepare()
  console = rich.console.Console(file=sys.stdout, width=200)
  prepare.print_summary(path, console)
  for split in list_splits(path):
    records = Records(path, split)
    json.dumps(to_coco(records))
    yield from (records[i] for i in range(len(records)))
  yield from records.metadata["problems"]


def read_coco(paths):
  """Reads and checks as that builder does, without writing."""
  files = coco_instances.find_custom(*paths, max_pixels=MAX_PIXELS)
  text = files.annotations.read(files.annotations_name)
  found = annotations.read_annotations(text, "a.json", files.images)
  for problem in found.findings.problems.lines():
    problem.encode()
    yield problem
  yield from encode(coco_instances.AnnotatedImages(found.images, files.images))


def read_labels(folder):
  """Reads and checks likewise."""
  source, findings = (
    label_pairs.find_source(str(folder), MAX_PIXELS),
    Findings(),
  )
  pairs = label_pairs.find_pairs(source, findings)
  if (folder / "index.json").exists():
    splits = labeled_images.read_index(folder / "index.json")
    pairs = {key: pair for key, pair in pairs.items() if key in splits}
  yield from findings.problems.lines()
  pairs = [pair for pages in pairs.values() for pair in pages]
  yield from encode(labeled_images.LabeledPairs(pairs, source))


def encode(source):
  """Yields the record of each image, or the problem, as they would be written.

  TFDS encodes it: a value that its feature does not take raises here.
  """
  for i in range(len(source)):
    try:
      example = examples.to_example(*source[i])
    except examples.UnusableImage as error:
      str(error).encode()
      yield str(error)
      continue
    FEATURES.encode_example(example)
    rows = example.pop("objects")
    names = ("annotation_id", "label", "is_crowd", "rle", "area", "bbox")
    objects = {name: [row[name] for row in rows] for name in names}
    yield example | dict(
      objects=objects, file_name=example["file_name"].encode()
    )


def check_record(record, rng):
  """Reads a record, augments and packs it, as training does."""
  sample = read_sample(record)
  assert sample.masks.shape[1:] == sample.original_size
  for mask in sample.masks:
    assert set(np.unique(mask.view(np.uint8))) <= {0, 1}
  assert np.isfinite(sample.areas).all() and (sample.areas >= 0).all()
  boxes = sample.boxes_xyxy
  limit = np.tile(sample.original_size[::-1], 2) + 1  # rounded boxes
  assert ((boxes >= -1) & (boxes <= limit)).all()  # and not NaN
  assert (boxes[:, :2] <= boxes[:, 2:]).all()
  resize = RESIZES[0 if rng.random() < 0.5 else 1]
  augmentation = augmentations.build((ORIENT, resize, COLOR), IMAGE_SIZE)
  batching.make_example(
    augmentation(sample, rng),
    image_size=IMAGE_SIZE,
    mask_frame=ImageFrame(rule=str(rng.choice(MASK_RULES)), stride=4),
    max_instances=4,
    min_mask_area=1.0,
    interpolation="area",
  )


def run_case(number, seed, folder, guard):
  """Runs a case; returns its kind and outcome."""
  rng = np.random.default_rng((seed, number))
  kind = list(WRITERS)[number % len(WRITERS)]
  source, data = folder / "source", folder / "data"
  for path in (source, data):
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
  written = WRITERS[kind](rng, source, kind)
  is_coco = WRITERS[kind] is write_coco
  guard.is_on = True
  try:
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), "utf-8")):
      if number % EVERY:
        found = read_coco(written) if is_coco else read_labels(written)
      elif is_coco:
        found = prepare_coco(written, data)
      else:
        found = prepare_labels(written, data)
      is_clean = True
      for item in found:
        if isinstance(item, str):
          is_clean = False
        else:
          check_record(item, rng)
    return kind, "clean" if is_clean else "skipped"
  except Exception as error:
    if cli.explain(error) is None:
      raise
    return kind, "refused"
  finally:
    guard.is_on = False


def peak_memory():
  """Largest resident size so far, in bytes."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main():
  """Runs the cases that the flags name; exits with 1 after failures."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--start", type=int, default=0)
  parser.add_argument("--count", type=int, default=300)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--current", help="file that holds the running case")
  flags = parser.parse_args()
  outcomes = collections.Counter()
  failures, slowest = [], (0.0, None)
  with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    tempfile.tempdir = str(folder / "data")  # TFDS makes and removes a folder
    guard = Guard(folder / "data")
    for number in range(flags.start, flags.start + flags.count):
      if flags.current:
        pathlib.Path(flags.current).write_text(str(number))
      began, peak = time.process_time(), peak_memory()
      try:
        kind, outcome = run_case(number, flags.seed, folder, guard)
        outcomes[f"{kind}: {outcome}"] += 1
      except Exception:
        failures.append(dict(case=number, error=traceback.format_exc()))
      slowest = max(slowest, (time.process_time() - began, number))
      if peak_memory() > peak + MAX_RISE and number > flags.start:
        rise = f"took {(peak_memory() - peak) >> 20} MiB"
        failures.append(dict(case=number, error=rise))
      if guard.violations:
        failures.append(dict(case=number, error=str(guard.violations)))
        guard.violations.clear()
    left = sorted(x.name for x in folder.iterdir())
    if left != ["data", "source"]:
      failures.append(dict(case=None, error=f"left behind: {left}"))
  for failure in failures:
    print(json.dumps(failure))
  print(
    json.dumps(
      dict(
        cases=flags.count,
        failures=len(failures),
        outcomes=dict(sorted(outcomes.items())),
        slowest=dict(cpu_s=round(slowest[0], 2), case=slowest[1]),
        cpu_s=round(time.process_time(), 1),
      )
    )
  )
  sys.exit(bool(failures))


if __name__ == "__main__":
  main()
