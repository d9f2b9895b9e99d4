"""Reads videos and cameras as streams of RGB frames, and writes videos."""

import contextlib
import dataclasses
import fractions
import pathlib
import time
from collections.abc import Iterator

import av
import cv2
import numpy as np

from solo_jax.errors import UserError

SUFFIXES = (".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mpg", ".mpeg")
# FFmpeg's names; playlists and the like, which refer to other files, are left
# out.
_FORMATS = (
  "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mpeg,mpegvideo,mpegts,m4v,wav"
)
TICKS = 90_000  # of a second; a multiple of usual frame durations
# A last frame that is shown for longer than this means missing frames.
LAST_SECONDS = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Frame:
  """One frame of a video.

  Attributes:
    image: RGB, upright. [H0, W0, 3] uint8.
    seconds: Time since the start.
  """

  image: np.ndarray
  seconds: float


class VideoFile:
  """A video that PyAV (FFmpeg) reads; its first video stream.

  Attributes:
    size: (height, width) of its frames, upright.
    rate: Frames per second, on average.
    num_frames: Approximate number of frames, for a progress bar; None if
      unknown.
    problem: The problem with the file after `frames` has finished, or None.
  """

  def __init__(self, path: pathlib.Path):
    """Reads the file's metadata and its first frame.

    Args:
      path: The file.

    Raises:
      OSError: If the file cannot be opened.
      UserError: If it holds no video that can be decoded.
    """
    self._path = path
    try:
      with _open(path) as container:
        if not container.streams.video:
          raise UserError("no video in the file")
        stream = container.streams.video[0]
        self.rate = stream.average_rate or fractions.Fraction(25)
        self._declared = _declared_seconds(container)
        self.num_frames = stream.frames or None
        if not stream.frames and self._declared is not None:
          self.num_frames = round(self._declared * self.rate)
        first = next(container.decode(stream), None)
    except av.error.FFmpegError as error:
      raise _damaged(error) from error
    if first is None:
      raise UserError("no frame of the video can be decoded")
    self._stored_size = first.height, first.width
    self._turns = first.rotation // 90 % 4  # counter-clockwise
    turned = self._turns % 2
    self.size = self._stored_size[::-1] if turned else self._stored_size
    self.problem = None

  def frames(self) -> Iterator[Frame]:
    """Yields the frames of a video from its start, without damaged ones."""
    num_decoded = num_damaged = 0
    height, width = self._stored_size  # also if a video changes its size
    seconds = longest = 0.0  # time of this frame; interval between frames
    last = None  # the file's own time of a frame, which may not start at 0
    with _open(self._path) as container:
      stream = container.streams.video[0]
      stream.thread_type = "AUTO"
      for packet in container.demux(stream):
        try:
          frames = packet.decode()
        except av.error.InvalidDataError:
          num_damaged += 1
          continue
        for frame in frames:
          image = frame.to_ndarray(format="rgb24", width=width, height=height)
          before = seconds
          if not num_decoded:
            start = frame.time
          elif frame.time is None or start is None:
            seconds += float(1 / self.rate)
          else:  # an AVI may give times that are out of order
            seconds = max(seconds, frame.time - start)
          longest = max(longest, seconds - before)
          last = frame.time
          num_decoded += 1
          yield Frame(
            image=np.ascontiguousarray(np.rot90(image, self._turns)),
            seconds=seconds,
          )
    # By time: an edited file may contain frames that are not shown, and an AVI
    # counts empty ones. The last frame may be shown for as long as any other.
    is_cut = None not in (last, self._declared) and (
      last + max(longest, LAST_SECONDS) < self._declared
    )
    if num_damaged or is_cut:
      of = "" if self._declared is None else f" of {self._declared:.1f}"
      at = seconds if last is None else last
      self.problem = (
        f"damaged or cut off: only {num_decoded} frames could be decoded, the "
        f"last at {at:.1f}{of} s"
      )


@contextlib.contextmanager
def _open(path: pathlib.Path) -> Iterator[av.container.InputContainer]:
  """Yields an open video, rejecting other kinds of input.

  FFmpeg gets the open file: it would treat some names as addresses, cannot read
  names that are not UTF-8, and calls damage an I/O error. Only formats that
  cannot refer to other files are tried.
  """
  with path.open("rb") as file:
    try:
      container = av.open(file, options={"format_whitelist": _FORMATS})
    except (av.error.FFmpegError, OSError) as error:
      raise _damaged(error) from error
    with container:
      yield container


def _damaged(error: OSError | av.error.FFmpegError) -> UserError:
  return UserError(f"not a video, or damaged ({error.strerror})")


def _declared_seconds(container: av.container.InputContainer) -> float | None:
  """Returns the declared duration of a video, None if unknown."""
  stream = container.streams.video[0]
  if stream.duration:
    return float(stream.duration * stream.time_base)
  if container.duration and len(container.streams) == 1:
    return container.duration / av.time_base
  return None  # sound may last longer


class Camera:
  """A camera of this machine, read with OpenCV, until the program is stopped.

  Attributes:
    size: (height, width) of its frames.
    rate: Frames per second according to the driver.
    num_frames: None.
    problem: None.
  """

  def __init__(self, index: int):
    """Opens a camera.

    Args:
      index: Number of the camera, from 0.

    Raises:
      UserError: If there is no such camera or it returns no frames.
    """
    self._capture = cv2.VideoCapture(index)
    is_read, frame = self._capture.read()
    if not is_read:
      raise UserError(
        f"camera {index} returns no pictures: is it connected, and not in use?"
      )
    self.size = frame.shape[:2]
    promised = self._capture.get(cv2.CAP_PROP_FPS)
    self.rate = fractions.Fraction(round(promised) if promised >= 1 else 30)
    self.num_frames = None
    self.problem = None

  def frames(self) -> Iterator[Frame]:
    """Yields frames until the camera stops."""
    start = time.monotonic()
    try:
      while True:
        is_read, frame = self._capture.read()
        if not is_read:
          return
        yield Frame(
          image=np.ascontiguousarray(frame[..., ::-1]),
          seconds=time.monotonic() - start,
        )
    finally:
      self._capture.release()


class VideoWriter:
  """Writes an MP4 file (H.264) with the frames' own times."""

  def __init__(self, path: pathlib.Path, rate: fractions.Fraction):
    """Starts a video; its size is that of the first frame.

    Args:
      path: The file.
      rate: Approximate frames per second.
    """
    self._file = path.open("wb")
    self._container = av.open(self._file, "w", format="mp4")
    self._stream = self._container.add_stream("libx264", rate=rate)
    self._stream.pix_fmt = "yuv420p"  # the format that every player supports
    self._stream.options = {"crf": "20"}
    self._stream.codec_context.time_base = fractions.Fraction(1, TICKS)
    self._next = 0

  def write(self, frame: Frame) -> None:
    """Adds a frame; an odd last row or column is left out."""
    height, width = (side - side % 2 for side in frame.image.shape[:2])
    if not self._next:
      self._stream.height, self._stream.width = height, width
    picture = av.VideoFrame.from_ndarray(
      np.ascontiguousarray(frame.image[:height, :width]), "rgb24"
    )
    picture.pts = max(self._next, round(frame.seconds * TICKS))
    picture.time_base = fractions.Fraction(1, TICKS)
    self._next = picture.pts + 1
    self._container.mux(self._stream.encode(picture))

  def close(self) -> None:
    """Finishes the file."""
    if self._next:
      self._container.mux(self._stream.encode(None))
    self._container.close()
    self._file.close()
