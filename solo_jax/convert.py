r"""Converts a published checkpoint for eval, predict and training.

python -m solo_jax.convert --checkpoint=SOLOv2_R50_3x.pth \
    --config=configs/solov2_coco.py:backbone=r50,recipe=official,schedule=3x \
    --out=checkpoints/solov2_r50_3x
python -m solo_jax.eval --checkpoint=checkpoints/solov2_r50_3x

--list shows the published weights that have a name and what is in the cache;
--remove=NAME removes a name or an address from it, --remove=all everything. A
name, an address or a file can be given as --checkpoint to eval, predict, export
and webapp as well: they convert it once, into the cache (see
solo_jax/weights.py).

Families: solo_official (WXinlong/SOLO), adelaidet, mmdet, transformers,
  mask2former (the authors') and mmdet_mask2former for whole networks;
  torchvision, detectron2 (caffe-style ResNets) and lite0 for backbones, to
  start training from with --config.training.init_from=OUT. Without --family,
  the family is detected from the parameter names. The config must be that of
  the network; without --config the command prints which one fits. Files: .pth
  of any PyTorch version, read without PyTorch and without executing anything,
  and .safetensors.

A transformers folder, with config.json, needs no --config. Any other folder
must be an older checkpoint of this project without a checksum: its weights are
saved again with one.

Conversion is strict in both directions: a rule must use or drop every tensor,
and every parameter must be filled. Nothing is written unless everything fits.
"""

from absl import app, flags
from etils import epath

from solo_jax import cache, cached, cli, published, weights
from solo_jax.building import check_variables
from solo_jax.cache import VARIABLE, cache_folder
from solo_jax.checkpoints import converted, store
from solo_jax.conversion import transformers_config
from solo_jax.conversion.families import NAMES, find_family
from solo_jax.errors import printable
from solo_jax.terminal import Console


def make_list() -> list[str]:
  """Returns the published weights that have a name, one line each."""
  rows = [("name", "AP", "MB", "cached", "licence", "source")]
  for row in published.PUBLISHED:
    folder = cached.is_cached(row)
    rows.append(
      (
        row.name,
        "-" if row.ap is None else f"{row.ap}",
        "-" if row.megabytes is None else f"{row.megabytes}",
        f"{cache.count_bytes(folder) / 1e6:.0f} MB" if folder else "-",
        row.licence,
        row.source or f"by hand from {row.page}",
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return [
    "  ".join(
      f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)
    ).rstrip()
    for row in rows
  ]


def remove(text: str) -> list[str]:
  """Returns a report after removing something from the cache.

  Args:
    text: See `cached.find_cached`.

  Returns:
    A line for each folder.

  Raises:
    UserError: If it is not in the cache, or cannot be removed.
  """
  return [
    f"removed {folder}: {cache.remove(folder) / 1e6:.0f} MB"
    for folder in cached.find_cached(text)
  ]


def take_over(folder: str, out: str) -> None:
  """Saves the weights of a checkpoint again, with a checksum.

  Args:
    folder: Folder of a run or of one checkpoint.
    out: Folder for the checkpoint; must be new.

  Raises:
    UserError: If there is no checkpoint, or it is damaged.
  """
  checkpoint = store.load(folder, is_unsigned_read=True)
  check_variables(checkpoint.config, checkpoint.variables)
  converted.save_converted(
    out,
    variables=checkpoint.variables,
    config=checkpoint.config,
    class_names=checkpoint.class_names,
    category_ids=checkpoint.category_ids,
    origin=dict(family="solo_jax", step=checkpoint.step),
  )
  print(f"written    {out}: step {checkpoint.step} of {folder}")


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  """Defines the command's flags.

  Args:
    values: Flag values to define them in; tests pass their own.
  """
  cli.define_config_flag(values, required=False)
  flags.DEFINE_enum(
    "family",
    None,
    NAMES,
    "Code base that wrote the checkpoint; detected from its names by default.",
    flag_values=values,
  )
  cli.define_checkpoint_flag(
    values,
    meaning="The .pth or .safetensors file, or the folder of a checkpoint "
    "without a checksum. Default for --family=lite0: the file of the installed "
    "package.",
    required=False,
  )
  flags.DEFINE_string(
    "out",
    None,
    "Folder for the checkpoint; must not exist.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "categories",
    None,
    "COCO annotation file whose categories are the classes, for a checkpoint "
    "of another dataset that does not store its class names.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "ema",
    False,
    "Use the weights that the file calls EMA. Not needed for mmengine files: "
    "their plain names already hold the averages.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "other_input",
    False,
    "Accept a config whose preprocessing or strides differ from the family's.",
    flag_values=values,
  )
  flags.DEFINE_boolean(
    "list",
    False,
    "Show the names of published weights, their AP, size, licence and source, "
    "and whether they are cached.",
    flag_values=values,
  )
  flags.DEFINE_string(
    "remove",
    None,
    "Remove a name, an address or 'all' from the cache, and show how much "
    "space that frees.",
    flag_values=values,
  )


def main() -> None:
  """Runs the command."""
  values = flags.FLAGS
  console = Console(markup=False, highlight=False, soft_wrap=True)
  if values.list:
    for line in make_list():
      console.print(line)
    for folder in cached.others():
      console.print(
        f"cached too: {folder.name}, {cache.count_bytes(folder) / 1e6:.0f} MB"
      )
    console.print(
      f"AP: {published.COCO}, as published. Cache: {cache_folder()} "
      f"(--cache or {VARIABLE} moves it), "
      f"{cache.count_bytes(cache_folder()) / 1e6:.0f} MB; --remove=NAME frees "
      "space."
    )
    return
  if values.remove is not None:
    for line in remove(values.remove):
      console.print(line)
    return
  if values.out is None:
    raise app.UsageError("--out is required")
  path = values.checkpoint
  if path is None and values.family is not None:
    find_file = find_family(values.family, ()).find_file
    path = find_file and str(find_file())
  if path is None:
    raise app.UsageError("--checkpoint is required")
  if transformers_config.is_folder(path):
    lines = weights.convert_folder(path, values.out, {})
    for line in (*lines, f"written    {values.out}"):
      console.print(printable(line))
    return
  if epath.Path(path).is_dir():
    take_over(path, values.out)
    return
  lines = weights.convert_file(
    path,
    values.out,
    config=values.config,
    origin={},
    family=values.family,
    categories=values.categories,
    use_ema=values.ema,
    is_other_input=values.other_input,
  )
  for line in (*lines, f"written    {values.out}"):
    console.print(printable(line))


if __name__ == "__main__":
  define_flags()
  cli.run(main)
