r"""A web page to try a model: drop an image, set thresholds, download JSON.

python -m solo_jax.webapp --checkpoint=workdirs/shapes

Then open the address that it prints. Without --host, only this machine can open
the page. It loads nothing from other servers and sends nothing to them. Needs
the extra 'demo' (Gradio).
"""

import html
import os
import pathlib
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import flags

from solo_jax import cli, types, visualization
from solo_jax.api import Predictor
from solo_jax.data import transforms
from solo_jax.errors import UserError
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.media.reading import ImageReader
from solo_jax.media.saving import Results
from solo_jax.visitors import NO_ADDRESSES, Guard, refuse_addresses

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported

# Pixels of all masks that a picture shows at once, one byte each.
MAX_DRAWN_PIXELS = 2**30

STYLE = """
#table { max-height: 26em; overflow: auto }
#table table { width: 100%; font-variant-numeric: tabular-nums }
#table :is(th, td) {
  border: 0; border-bottom: 1px solid var(--border-color-primary);
  padding: 0.3em 0.8em; text-align: left;
}
#table th { font-weight: 600; position: sticky; top: 0;
  background: var(--background-fill-primary) }
"""

FLAGS = flags.FLAGS


def build_page(
  predictor: Predictor,
  *,
  title: str,
  score_threshold: float,
  max_pixels: int,
) -> Any:
  """Returns the page; nothing is served yet.

  Args:
    predictor: Predictor of a checkpoint.
    title: Heading, in Markdown.
    score_threshold: Initial value of the slider.
    max_pixels: Images that declare more pixels are rejected before decoding.

  Returns:
    A gradio.Blocks.

  Raises:
    UserError: If Gradio is not installed.
  """
  gr = _import_gradio()
  with gr.Blocks(
    title="solo_jax", analytics_enabled=False, delete_cache=(600, 3600)
  ) as page:
    gr.Markdown(title)
    # State of each visitor, deleted an hour after the last image.
    state = gr.State(time_to_live=3600)
    with gr.Row():
      with gr.Column(scale=2):
        source, score, area = _add_inputs(score_threshold)
      with gr.Column(scale=3):
        picture, text, download = _add_results()
    table = gr.HTML(elem_id="table")
    reader = ImageReader(max_pixels=max_pixels, exif=predictor.exif)
    detect, show = _make_handlers(predictor, download, reader)
    # One image at a time: they share the device.
    shown = dict(
      inputs=[state, score, area], outputs=[picture, text, table, download]
    )
    source.change(
      detect, source, state, concurrency_limit=1, show_progress="full"
    ).then(show, **shown)
    for slider in (score, area):
      slider.change(
        show, **shown, trigger_mode="always_last", show_progress="hidden"
      )
  return page


def _add_inputs(score_threshold: float) -> tuple[Any, Any, Any]:
  """Returns the image input and the sliders for score and area."""
  gr = _import_gradio()
  source = gr.Image(
    show_label=False,
    buttons=["fullscreen"],
    type="filepath",
    sources=["upload", "clipboard"],
    height=360,
    elem_id="source",
  )
  # The original file, with its 16 bits: `ImageReader` reports its problems.
  source.preprocess = lambda data: data and data.path
  refuse_addresses(source, gr.Error(NO_ADDRESSES, print_exception=False))
  score = gr.Slider(
    0,
    1,
    score_threshold,
    step=0.01,
    label="Minimum score",
    elem_id="score",
  )
  area = gr.Slider(
    0, 2000, 0, step=1, label="Minimum area in pixels", elem_id="area"
  )
  return source, score, area


def _add_results() -> tuple[Any, Any, Any]:
  """Returns the picture, the number of detections and the download."""
  gr = _import_gradio()
  picture = gr.Image(
    show_label=False,
    buttons=["download", "fullscreen"],  # not "share"
    format="png",
    interactive=False,
    height=480,
    elem_id="picture",
  )
  text = gr.Markdown(elem_id="count")
  download = gr.DownloadButton("Download JSON (COCO)", elem_id="json")
  return picture, text, download


def _make_handlers(
  predictor: Predictor, download: Any, reader: ImageReader
) -> tuple[Callable, Callable]:
  """Returns the handlers for a new image and for a new threshold."""
  gr = _import_gradio()

  def detect(path):
    if path is None:
      return None
    try:
      image = reader.read(pathlib.Path(path))
    except (OSError, UserError) as error:
      message = f"{pathlib.Path(path).name}: {error}"
      raise gr.Error(message, print_exception=False) from error
    return pathlib.Path(path).name, image, predictor(image)

  def show(state, score, area):
    if state is None:
      return None, "", "", None
    name, image, found = state
    shown = select(found, score, area)
    picture = visualization.draw_instances(
      transforms.to_uint8(image),
      shown.to_dense(MAX_DRAWN_PIXELS),
      predictor.class_names,
    )
    with tempfile.TemporaryDirectory(prefix="solo_jax_demo_") as folder:
      path = write_json(pathlib.Path(folder), predictor, image, shown, name)
      # Gradio deletes its copy like uploads, see `delete_cache`.
      path = download.move_resource_to_block_cache(path)
    text = (
      f"**{len(shown)} of {len(found)}** detections, image of "
      f"{image.shape[1]} x {image.shape[0]} pixels"
    )
    return picture, text, to_html(describe(predictor, shown)), path

  return detect, show


def launch(page: Any, *, host: str, port: int, max_upload_mb: int) -> str:
  """Serves a page in background threads.

  Args:
    page: From `build_page`.
    host: Address to listen on.
    port: Port to listen on; 0: any free port.
    max_upload_mb: Larger files are rejected during the upload.

  Returns:
    The address to open.

  Raises:
    OSError: If the port is taken.
  """
  gr = _import_gradio()
  # The default themes load fonts from other servers.
  theme = gr.themes.Soft(
    primary_hue="teal",
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
  ).set(
    # The theme's own have a contrast of 2.2 to 3.7 with what is behind them.
    **{
      f"{name}{scheme}": color
      for scheme, grey in (("", "*neutral_600"), ("_dark", "*neutral_300"))
      for name, color in (
        ("block_label_text_color", "*body_text_color"),
        ("block_title_text_color", "*body_text_color"),
        ("block_title_background_fill", "transparent"),
        ("body_text_color_subdued", grey),
      )
    }
  )
  _, address, _ = page.launch(
    server_name=host,
    server_port=port or None,
    max_file_size=max_upload_mb * 10**6,
    share=False,
    theme=theme,
    css=STYLE,
    app_kwargs=dict(
      middleware=[(Guard, (), dict(max_bytes=max_upload_mb * 10**6))]
    ),
    state_session_capacity=32,  # visitors whose image is kept in memory
    ssr_mode=False,
    run_history=False,
    enable_monitoring=False,
    footer_links=[],
    quiet=True,
    prevent_thread_lock=True,
  )
  return address


def make_title(checkpoint: str, class_names: Sequence[str]) -> str:
  """Returns a heading for the model, in Markdown.

  Args:
    checkpoint: Path of the model.
    class_names: Classes it detects; the first dozen are listed.

  Returns:
    A heading and one line.
  """
  names = ", ".join(class_names[:12])
  more = len(class_names) - 12
  rest = f" and {more} more" if more > 0 else ""
  return f"# solo_jax\n`{checkpoint}` finds: {names}{rest}"


def select(
  instances: types.Instances, score: float, area: float
) -> types.Instances:
  """Returns the instances of at least a score and an area.

  Args:
    instances: By falling score.
    score: Smallest score.
    area: Fewest pixels.

  Returns:
    The selected instances, in the same order.
  """
  instances = instances.above(score)
  areas = np.array([instances.crop(i)[2].sum() for i in range(len(instances))])
  return instances.take(np.flatnonzero(areas >= area))


def describe(
  predictor: Predictor, instances: types.Instances
) -> list[dict[str, Any]]:
  """Returns a description of each instance.

  Args:
    predictor: Predictor of the checkpoint.
    instances: By falling score.

  Returns:
    One table row per instance, by column.
  """
  rows = []
  for i in range(len(instances)):
    left, top, right, bottom = instances.boxes_xyxy[i].astype(int).tolist()
    rows.append(
      {
        "#": i + 1,
        "class": predictor.class_names[instances.labels[i]],
        "score": f"{instances.scores[i]:.3f}",
        "area": int(instances.crop(i)[2].sum()),
        "box": f"{left}, {top} to {right}, {bottom}",
      }
    )
  return rows


def to_html(rows: Sequence[dict[str, Any]]) -> str:
  """Returns an HTML table of rows of equal columns; '' without rows."""
  if not rows:
    return ""

  def line(cells, tag):
    cells = (f"<{tag}>{html.escape(str(x))}</{tag}>" for x in cells)
    return f"<tr>{''.join(cells)}</tr>"

  body = "".join(line(row.values(), "td") for row in rows)
  return f"<table>{line(rows[0], 'th')}{body}</table>"


def write_json(
  folder: pathlib.Path,
  predictor: Predictor,
  image: np.ndarray,
  instances: types.Instances,
  name: str,
) -> pathlib.Path:
  """Writes instances in COCO's format, as `predict` does.

  Args:
    folder: Folder to write to.
    predictor: Predictor of the checkpoint.
    image: The image.
    instances: What to write.
    name: Name of the image's file.

  Returns:
    Path of the file.
  """
  with Results(
    folder,
    kinds=["rle"],
    class_names=predictor.class_names,
    category_ids=predictor.category_ids,
  ) as results:
    results.add(image, instances, file_name=name, name="image", views={})
  return folder / "predictions.json"


def _import_gradio():
  try:
    import gradio
  except ModuleNotFoundError as error:
    raise UserError(
      "the page needs Gradio: pip install 'solo_jax[demo]'"
    ) from error
  return gradio


def define_flags() -> None:
  """Defines the flags: when run, so that commands can be imported together."""
  cli.define_checkpoint_flag()
  flags.DEFINE_string(
    "host",
    "127.0.0.1",
    "Address to listen on. 0.0.0.0 admits everyone who can reach this machine: "
    "there is no password.",
  )
  flags.DEFINE_integer("port", 7860, "Port to listen on.", lower_bound=0)
  cli.define_score_flag("Initial value of the score slider.")
  flags.DEFINE_integer(
    "max_upload_mb", 20, "Reject larger uploads.", lower_bound=1
  )
  cli.define_max_pixels_flag(
    "Reject images whose header declares more pixels.", default=50_000_000
  )


def main() -> None:
  """Runs the command."""
  use_compilation_cache()
  predictor = Predictor.from_checkpoint(FLAGS.checkpoint)
  page = build_page(
    predictor,
    title=make_title(FLAGS.checkpoint, predictor.class_names),
    score_threshold=FLAGS.score_threshold,
    max_pixels=FLAGS.max_pixels,
  )
  address = launch(
    page,
    host=FLAGS.host,
    port=FLAGS.port,
    max_upload_mb=FLAGS.max_upload_mb,
  )
  print(f"open {address} (stop with Ctrl-C)", flush=True)
  page.block_thread()


if __name__ == "__main__":
  define_flags()
  cli.run(main)
