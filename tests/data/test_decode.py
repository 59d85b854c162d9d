import av
import numpy as np
import pytest
from media_files import CODECS, colour_at, tone, write_film, write_picture, write_wav

from mm_ray.data.media.decode import DecodeRequest, read_media
from mm_ray.data.media.errors import MediaError
from mm_ray.data.media.video_track import VideoFrameSampler, evenly_spaced, varies


def pitch(waveform_N, rate):
    """The loudest frequency, Hz."""
    return np.abs(np.fft.rfft(waveform_N * np.hanning(len(waveform_N)))).argmax() * rate / len(waveform_N)


@pytest.mark.parametrize("form", CODECS)
def test_both_tracks_of_every_container(tmp_path, form):
    media = read_media(write_film(tmp_path / f"a.{form}", seconds=3, hz=1000), DecodeRequest(fps=1))
    assert abs(pitch(media.waveform_N, media.sample_rate) - 1000) < 2
    assert abs(np.abs(media.waveform_N[5000:-5000]).max() - 0.5) < 0.05
    assert media.frames.shape == (3, 48, 64, 3)
    assert abs(media.seconds - 3) < 0.2
    assert media.flags == ()
    begun = 1 if form == "avi" else 0  # its first frame comes a tenth of a second late, so each time shows the second before
    for frame, second in zip(media.frames[begun:], range(3), strict=False):
        assert np.abs(frame[40, 32].astype(int) - colour_at(second)).max() <= 6


def test_a_lossless_film_is_read_exactly(tmp_path):
    media = read_media(write_film(tmp_path / "a.mkv", seconds=3, hz=440), DecodeRequest(fps=10, max_frames=100))
    assert media.frames[:, 40, 32].tolist() == [list(colour_at(i // 10)) for i in range(30)]
    left = [int(np.flatnonzero((frame[4] == 255).all(axis=-1))[0]) for frame in media.frames]
    assert left == [56 * (i % 10) // 10 for i in range(30)]
    np.testing.assert_allclose(media.waveform_N, tone(440, 3, 48_000), atol=5e-5)  # 16 bits


@pytest.mark.parametrize("form", ["mp4", "mkv", "webm"])
@pytest.mark.parametrize("gop", [1, 7, 1000])
def test_a_span_is_cut_from_the_middle(tmp_path, form, gop):
    path = write_film(tmp_path / f"a.{form}", seconds=8, hz=800, gop=gop)
    media = read_media(path, DecodeRequest(start_s=3.0, end_s=6.0, fps=1))
    assert abs(len(media.waveform_N) / media.sample_rate - 3) < 0.03
    assert abs(pitch(media.waveform_N, media.sample_rate) - 800) < 2
    colours = media.frames[:, 40, 32].astype(int)
    assert np.abs(colours - [colour_at(3), colour_at(4), colour_at(5)]).max() <= 6
    assert media.seconds == 3


def test_a_span_of_lossless_sound_is_the_same_samples(tmp_path):
    path = write_wav(tmp_path / "a.wav", tone(300, 5, 8000), 8000)
    whole, part = read_media(path, DecodeRequest()), read_media(path, DecodeRequest(start_s=1.25, end_s=2.0))
    assert part.waveform_N.tobytes() == whole.waveform_N[10_000:16_000].tobytes()


def test_no_more_sound_than_wanted(tmp_path):
    media = read_media(write_wav(tmp_path / "a.wav", tone(300, 5, 8000), 8000), DecodeRequest(audio_s=1.0))
    assert len(media.waveform_N) == 10_000  # and a quarter of a second for the resampler


def num_decoded(path, times):
    with av.open(str(path)) as container:
        sight = VideoFrameSampler(container.streams.video[0], times, lambda width, height: (8, 8))
        for packet in container.demux(container.streams.video[0]):
            sight.feed(packet)
        sight.end()
        return sight.num_decoded


def test_only_groups_with_a_wanted_frame_are_decoded(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=20, gop=10, sound=False)
    assert num_decoded(path, [0.0, 15.0]) <= 30 < 200
    assert num_decoded(path, [i / 10 for i in range(200)]) >= 199


def test_frames_of_a_long_film_are_sought(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=60, fps=5, gop=10)
    media = read_media(path, DecodeRequest(audio_s=1.0, fps=1, max_frames=4))
    assert media.frames[:, 40, 32].tolist() == pytest.approx(np.array([colour_at(s) for s in (0, 15, 30, 45)]), abs=6)


def test_a_picture_is_a_video_of_one_frame(tmp_path):
    for name in ("a.png", "a.jpg"):
        media = read_media(write_picture(tmp_path / name), DecodeRequest(), tracks=("video",))
        assert media.frames.shape == (1, 30, 40, 3)
        assert media.frames[0, 15, 20].tolist() == pytest.approx([255, 0, 0], abs=2)
        assert media.flags == ()


def test_frames_are_scaled_as_asked(tmp_path):
    path = write_film(tmp_path / "a.mkv", seconds=1)
    media = read_media(path, DecodeRequest(size=lambda width, height: (width // 4, height // 4)))
    assert media.frames.shape == (1, 12, 16, 3)
    assert media.frames[0, 10, 8].tolist() == list(colour_at(0))


def test_a_wanted_time_is_every_second_or_evenly_spaced():
    assert evenly_spaced(0, 3.5, 1, 10) == [0, 1, 2]
    assert evenly_spaced(2, 2.3, 1, 10) == [2]
    assert evenly_spaced(10, 50, 1, 4) == [10, 20, 30, 40]
    assert evenly_spaced(0, 1, 2, 10) == [0, 0.5]


def test_steady_and_varying_times():
    assert not varies([0, 0.033, 0.067, 0.1, 0.133, 0.167])
    assert varies([0, 0.04, 0.08, 0.2, 0.24, 0.28, 0.32])
    assert not varies([])


def test_a_steady_film_that_is_not_read_to_its_end_varies_not(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=4, fps=25, gop=250)  # with frames that are stored before earlier ones
    for end_s in (2.0, 2.2, 2.4, 3.0):
        assert read_media(path, DecodeRequest(end_s=end_s, fps=5, max_frames=20)).flags == ()


def test_names_that_ffmpeg_would_take_for_something_else(tmp_path):
    for name in ("12:30.wav", "a%03d.wav", "-i.wav", "pipe:0.wav", "ä ö.wav"):
        assert len(read_media(write_wav(tmp_path / name, tone(300, 0.5, 8000), 8000), DecodeRequest()).waveform_N) == 4000


def test_a_playlist_leads_nowhere(tmp_path):
    path = write_film(tmp_path / "a.mp4", seconds=1)
    for text in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{path}\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{path}'\n",
    ):
        (tmp_path / "list.mp4").write_text(text)
        with pytest.raises(MediaError):
            read_media(tmp_path / "list.mp4", DecodeRequest())
