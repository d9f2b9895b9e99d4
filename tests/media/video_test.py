"""Tests of solo_jax/media/video.py, with videos that PyAV writes."""

import fractions
import wave

import av
import numpy as np
import pytest

from solo_jax.errors import UserError
from solo_jax.media import video

TENTHS = [i / 10 for i in range(60)]


def picture(size, index):
  """Grey that says which frame it is, its top left quarter white."""
  image = np.full((*size, 3), 40 + 3 * (index % 60), np.uint8)
  image[: size[0] // 2, : size[1] // 2] = 255
  return image


def write(
  path, *, size=(48, 64), times=None, rotation=0, noise=0, options=None
):
  """Writes a frame for each of the times, in seconds."""
  rng = np.random.default_rng(0)
  with av.open(path, "w", options=options or {}) as container:
    stream = container.add_stream("libx264", rate=10, options={"crf": "12"})
    stream.height, stream.width = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = fractions.Fraction(1, 90_000)
    if rotation:
      stream.set_display_rotation(rotation)
    for index, seconds in enumerate(TENTHS[:8] if times is None else times):
      image = picture(size, index) + rng.integers(0, noise + 1, (*size, 3))
      frame = av.VideoFrame.from_ndarray(image.astype(np.uint8), "rgb24")
      frame.pts = round(seconds * 90_000)
      frame.time_base = fractions.Fraction(1, 90_000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
  return path


@pytest.mark.parametrize(
  "text",
  [
    "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
    "ffconcat version 1.0\nfile {}\n",
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n",
  ],
)
def test_a_file_that_names_others_leads_to_none(tmp_path, text):
  """Playlists could read any file, or ask any server."""
  other = write(tmp_path / "other.mp4")
  path = tmp_path / "list.mp4"
  path.write_text(text.format(other))
  with pytest.raises(UserError, match="not a video, or damaged"):
    video.VideoFile(path)


def read(path):
  source = video.VideoFile(path)
  return source, list(source.frames())


def test_frames_and_their_times(tmp_path):
  source, frames = read(write(tmp_path / "a.mp4"))
  assert source.size == (48, 64)
  assert source.num_frames == len(frames) == 8
  assert source.rate == 10
  assert source.problem is None
  for index, frame in enumerate(frames):
    assert frame.image.dtype == np.uint8
    assert frame.seconds == pytest.approx(index / 10)
    expected = picture((48, 64), index).astype(int)
    assert np.abs(frame.image - expected).mean() < 3
  assert len(list(source.frames())) == 8  # and again


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi", ".mp4", ".mpg"])
@pytest.mark.parametrize(
  "times",
  [
    np.cumsum(np.random.default_rng(0).choice([0.02, 0.033, 0.5], 80)),
    np.arange(5) * 5.0,
  ],
  ids=["varying", "slow"],
)
def test_a_whole_video_is_not_called_damaged(tmp_path, suffix, times):
  """An AVI counts empty frames, a slow one shows its last for long."""
  source, frames = read(write(tmp_path / f"a{suffix}", times=times))
  assert source.problem is None
  assert len(frames) == len(times)
  seconds = [frame.seconds for frame in frames]
  assert (np.diff(seconds) >= 0).all()
  if suffix not in (".avi", ".mpg"):  # these do not keep the time of each
    assert seconds == pytest.approx(times - times[0], abs=2e-3)


def test_a_video_trimmed_without_coding_it_again(tmp_path):
  """It holds what is before its start, too, for the first frame to be decoded.

  As `ffmpeg -ss 2.55 -c copy` leaves it.
  """
  trimmed = tmp_path / "trimmed.mp4"
  with (
    av.open(write(tmp_path / "a.mp4", times=TENTHS)) as whole,
    av.open(trimmed, "w") as file,
  ):
    stream = whole.streams.video[0]
    copy = file.add_stream_from_template(stream)
    for packet in whole.demux(stream):
      if packet.dts is not None:  # the last is only a mark
        packet.pts -= round(2.55 / packet.time_base)
        packet.dts -= round(2.55 / packet.time_base)
        packet.stream = copy
        file.mux(packet)
  source, frames = read(trimmed)
  assert source.num_frames == 60 and len(frames) == 34
  assert source.problem is None


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_read_the_right_way_up(tmp_path, rotation):
  """As telephones write them: turned by what the file says."""
  source, frames = read(write(tmp_path / "a.mp4", rotation=rotation))
  expected = np.rot90(picture((48, 64), 0), rotation // 90).astype(int)
  assert source.size == expected.shape[:2] == frames[0].image.shape[:2]
  assert np.abs(frames[0].image - expected).mean() < 3


@pytest.mark.parametrize("suffix", [".mkv", ".ts"])
def test_a_video_that_was_cut_off(tmp_path, suffix):
  path = write(tmp_path / f"a{suffix}", times=TENTHS, noise=200)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  source, frames = read(path)
  assert 20 < len(frames) < 40
  assert frames[10].seconds == pytest.approx(1)
  if suffix == ".mkv":  # a transport stream does not know how long it was
    assert source.problem == (
      f"damaged or cut off: only {len(frames)} frames could be decoded, the "
      f"last at {frames[-1].seconds:.1f} of 6.0 s"
    )


def test_the_end_is_reported_in_the_time_of_the_file(tmp_path):
  path = write(tmp_path / "a.mkv", times=[t + 30 for t in TENTHS], noise=200)
  data = path.read_bytes()
  path.write_bytes(data[: len(data) // 2])
  source, frames = read(path)
  at = 30 + frames[-1].seconds
  assert source.problem.endswith(f"the last at {at:.1f} of 36.0 s")


def test_a_damaged_part_is_left_out(tmp_path):
  path = write(
    tmp_path / "a.mp4",
    times=TENTHS,
    noise=200,
    options={"movflags": "faststart"},
  )
  data = path.read_bytes()
  path.write_bytes(data[: len(data) * 7 // 10])
  source, frames = read(path)
  assert source.num_frames == 60
  assert 0 < len(frames) < 60
  assert source.problem.startswith(
    f"damaged or cut off: only {len(frames)} frames could be decoded, the last"
  )


def test_what_is_no_video(tmp_path):
  (tmp_path / "empty.mp4").touch()
  (tmp_path / "notes.mp4").write_text("not a video")
  with wave.open(str(tmp_path / "sound.mp4"), "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(8000)
    file.writeframes(bytes(16_000))
  cut = write(tmp_path / "cut.mp4")  # its index comes last
  cut.write_bytes(cut.read_bytes()[:-200])
  for name, message in (
    ("empty.mp4", "not a video, or damaged"),
    ("notes.mp4", "not a video, or damaged"),
    ("cut.mp4", "not a video, or damaged"),
    ("sound.mp4", "no video in the file"),
  ):
    with pytest.raises(UserError, match=message):
      video.VideoFile(tmp_path / name)
  with pytest.raises(FileNotFoundError):
    video.VideoFile(tmp_path / "missing.mp4")


def test_writes_what_it_reads(tmp_path):
  """An odd last row and column go: H.264 has colours of 2 x 2 pixels."""
  times = [0.0, 0.04, 0.5]
  writer = video.VideoWriter(tmp_path / "a.mp4", fractions.Fraction(25))
  images = [picture((49, 65), index) for index in range(3)]
  for image, seconds in zip(images, times, strict=True):
    writer.write(video.Frame(image=image, seconds=seconds))
  writer.close()
  source, frames = read(tmp_path / "a.mp4")
  assert source.size == (48, 64)
  assert [x.seconds for x in frames] == pytest.approx(times, abs=1e-3)
  for frame, image in zip(frames, images, strict=True):
    difference = frame.image.astype(int) - image[:48, :64]
    assert np.abs(difference).mean() < 4


def test_frames_at_the_same_time_are_kept(tmp_path):
  writer = video.VideoWriter(tmp_path / "a.mp4", fractions.Fraction(25))
  for _ in range(3):
    writer.write(video.Frame(image=picture((48, 64), 0), seconds=0.2))
  writer.close()
  assert len(read(tmp_path / "a.mp4")[1]) == 3


def test_a_video_without_frames_is_finished(tmp_path):
  video.VideoWriter(tmp_path / "a.mp4", fractions.Fraction(25)).close()


class FakeCapture:
  """Stands for cv2.VideoCapture: three blue pictures, BGR."""

  def __init__(self, index):
    self.left = 4 if index == 0 else 0

  def read(self):
    self.left -= 1
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[..., 0] = 255
    return (True, frame) if self.left >= 0 else (False, None)

  def get(self, prop):
    return 0.0  # does not know its rate

  def release(self):
    self.left = -1


def test_frames_of_a_camera_are_read(monkeypatch):
  monkeypatch.setattr(video.cv2, "VideoCapture", FakeCapture)
  camera = video.Camera(0)
  assert camera.size == (48, 64) and camera.rate == 30
  frames = list(camera.frames())
  assert len(frames) == 3
  assert (frames[0].image == (0, 0, 255)).all()
  assert 0 <= frames[0].seconds <= frames[1].seconds
  with pytest.raises(UserError, match="camera 1 returns no pictures"):
    video.Camera(1)
