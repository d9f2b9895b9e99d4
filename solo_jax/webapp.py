r"""A web page to try a model: drop an image, set thresholds, download JSON.

python -m solo_jax.webapp --checkpoint=workdirs/shapes \
    --examples=data/shapes/examples

Then open the address that it prints. Without --host, only this machine can open
the page. It loads nothing from other servers and sends nothing to them. Needs
the extra 'demo' (Gradio).
"""

import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from solo_jax import cli, visualization
from solo_jax import webapp_results as results
from solo_jax.api import Predictor
from solo_jax.data import transforms
from solo_jax.errors import UserError
from solo_jax.inference.compilation_cache import use_compilation_cache
from solo_jax.media.inputs import find_inputs
from solo_jax.media.reading import ImageReader
from solo_jax.terminal import plural
from solo_jax.visitors import NO_ADDRESSES, Guard, refuse_addresses

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported

# Pixels of all masks that a picture shows at once, one byte each.
MAX_DRAWN_PIXELS = 2**30

STYLE = pathlib.Path(__file__).with_suffix(".css")
MAX_EXAMPLES = 8
HEIGHT = 440  # pixels of both pictures

FLAGS = flags.FLAGS


def build_page(
  predictor: Predictor,
  *,
  title: str,
  score_threshold: float,
  max_pixels: int,
  examples: Sequence[str] = (),
  other: Predictor | None = None,
) -> Any:
  """Returns the page; nothing is served yet.

  Args:
    predictor: Predictor of a checkpoint.
    title: Heading, in Markdown.
    score_threshold: Initial value of the slider.
    max_pixels: Images that declare more pixels are rejected before decoding.
    examples: Image files to try by a click.
    other: Predictor of another checkpoint, to compare on the same image.

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
    names = predictor.class_names
    with gr.Accordion(plural(len(names), "class"), open=False):
      gr.Markdown(", ".join(names), elem_id="classes")
    with gr.Row():
      with gr.Column():
        source = _add_source()
        if examples:
          gr.Examples([*examples], source, label="Try one of these")
      with gr.Column():
        results_of = [_add_results()]
      if other is not None:
        with gr.Column():
          results_of.append(_add_results("_other"))
    controls = _add_controls(score_threshold)
    reader = ImageReader(max_pixels=max_pixels, exif=predictor.exif)
    predictors = [predictor] if other is None else [predictor, other]
    with gr.Row():
      for model, shown in zip(predictors, results_of, strict=True):
        name = "table" if model is predictor else "table_other"
        table = gr.HTML(elem_id=name, elem_classes="detections")
        _connect(model, source, controls, (*shown, table), reader)
  return page


def _connect(
  predictor: Predictor,
  source: Any,
  controls: Sequence[Any],
  shown: Sequence[Any],
  reader: ImageReader,
) -> None:
  """Fills the results of a predictor when the image or a control changes."""
  gr = _import_gradio()
  # State of each visitor, deleted an hour after the last image.
  state = gr.State(time_to_live=3600)
  picture, text, download, table = shown
  detect, show = _make_handlers(predictor, download, reader)
  given = dict(
    inputs=[state, *controls], outputs=[picture, text, table, download]
  )
  # One image at a time: all share the device.
  source.change(
    detect,
    source,
    state,
    concurrency_limit=1,
    concurrency_id="device",
    show_progress="full",
  ).then(show, **given)
  for control in controls:
    control.change(
      show, **given, trigger_mode="always_last", show_progress="hidden"
    )


def _add_source() -> Any:
  """Returns the image input."""
  gr = _import_gradio()
  source = gr.Image(
    show_label=False,
    buttons=["fullscreen"],
    type="filepath",
    sources=["upload", "clipboard"],
    height=HEIGHT,
    elem_id="source",
  )
  # The original file, with its 16 bits: `ImageReader` reports its problems.
  source.preprocess = lambda data: data and data.path
  refuse_addresses(source, gr.Error(NO_ADDRESSES, print_exception=False))
  return source


def _add_controls(score_threshold: float) -> tuple[Any, Any, Any, Any]:
  """Returns the controls for score, area, drawn parts and colours."""
  gr = _import_gradio()
  with gr.Row():
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
    parts = gr.CheckboxGroup(
      [*visualization.SHOWN],
      value=[*visualization.Look().show],
      label="Show",
      elem_id="parts",
    )
    colors = gr.Radio(
      [*visualization.COLORS],
      value=visualization.Look().colors,
      label="Colours by",
      elem_id="colors",
    )
  return score, area, parts, colors


def _add_results(ending: str = "") -> tuple[Any, Any, Any]:
  """Returns the picture, the number of detections and the download.

  Args:
    ending: End of the names of these elements in the page.
  """
  gr = _import_gradio()
  picture = gr.Image(
    show_label=False,
    buttons=["download", "fullscreen"],  # not "share"
    format="png",
    interactive=False,
    height=HEIGHT,
    elem_id=f"picture{ending}",
  )
  text = gr.Markdown(elem_id=f"count{ending}")
  download = gr.DownloadButton(
    "Download JSON (COCO)", elem_id=f"json{ending}", interactive=False
  )
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

  def show(state, score, area, parts, colors):
    if state is None:
      return None, "", "", gr.update(value=None, interactive=False)
    name, image, found = state
    shown = results.select(found, score, area)
    picture = visualization.draw_instances(
      transforms.to_uint8(image),
      shown.to_dense(MAX_DRAWN_PIXELS),
      predictor.class_names,
      tracks=range(1, len(shown) + 1),  # the numbers of the table
      look=visualization.Look(show=parts, colors=colors),
    )
    with tempfile.TemporaryDirectory(prefix="solo_jax_demo_") as folder:
      path = results.write_json(
        pathlib.Path(folder), predictor, image, shown, name
      )
      # Gradio deletes its copy like uploads, see `delete_cache`.
      path = download.move_resource_to_block_cache(path)
    text = (
      f"**{len(shown)} of {len(found)}** detections, image of "
      f"{image.shape[1]} x {image.shape[0]} pixels"
    )
    table = results.to_html(results.describe(predictor, shown))
    return picture, text, table, gr.update(value=path, interactive=True)

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
      for scheme, grey, chosen in (
        ("", "*neutral_600", "*primary_100"),
        ("_dark", "*neutral_300", "*primary_900"),
      )
      for name, color in (
        ("block_label_text_color", "*body_text_color"),
        ("block_title_text_color", "*body_text_color"),
        ("block_title_background_fill", "transparent"),
        ("body_text_color_subdued", grey),
        ("checkbox_label_text_color_selected", "*body_text_color"),
        ("checkbox_label_background_fill_selected", chosen),
      )
    }
  )
  _, address, _ = page.launch(
    server_name=host,
    server_port=port or None,
    max_file_size=max_upload_mb * 10**6,
    share=False,
    theme=theme,
    css=STYLE.read_text(encoding="utf-8"),
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
    A heading and two lines.
  """
  names = ", ".join(class_names[:12])
  more = len(class_names) - 12
  rest = f" and {more} more" if more > 0 else ""
  return (
    f"# Find {names}{rest}\n"
    "Drop or paste a picture. It goes to the machine that serves this page and "
    f"nowhere else.\n\nModel: `{checkpoint}`"
  )


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
  flags.DEFINE_string(
    "compare", None, "Another checkpoint, as --checkpoint, to show next to it."
  )
  flags.DEFINE_string(
    "examples", None, "Folder of images to offer as examples, the first eight."
  )
  cli.define_max_pixels_flag(
    "Reject images whose header declares more pixels.", default=50_000_000
  )


def _list_examples(folder: str | None) -> list[str]:
  """Returns the first image files of a folder."""
  if folder is None:
    return []
  return [
    str(x) for x in find_inputs([folder], sys.stdin).images[:MAX_EXAMPLES]
  ]


def main() -> None:
  """Runs the command."""
  use_compilation_cache()
  predictor = Predictor.from_checkpoint(FLAGS.checkpoint, few_shapes=True)
  title = make_title(FLAGS.checkpoint, predictor.class_names)
  other = None
  if FLAGS.compare is not None:
    title += f", next to `{FLAGS.compare}`"
    other = Predictor.from_checkpoint(FLAGS.compare, few_shapes=True)
  page = build_page(
    predictor,
    other=other,
    title=title,
    score_threshold=FLAGS.score_threshold,
    max_pixels=FLAGS.max_pixels,
    examples=_list_examples(FLAGS.examples),
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
