"""A student as one ONNX file, from waveform to label, for programs without torch.

The graph is written in ONNX's own textual form, step by step as `mm_ray.predict` works: log-mel frames, windows of any number
for each recording, each normalised by itself, the network, whose encoder writes its own lines, and the mean of the windows'
probabilities. It needs no loop: all frames of a batch are computed at once, and the windows are gathered from them.

Shape suffixes in names and comments: B recordings, N samples, T frames, F bins, W windows of all recordings, C classes.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchaudio.compliance.kaldi import get_mel_banks

from mm_ray.config import PRECOMPUTED, FeatureConfig
from mm_ray.data.features.log_mel import EPSILON, LEAST_ENERGY, LOWEST_HZ, PRE_EMPHASIS, frame_samples
from mm_ray.data.windows import Windows, windows_in_frames
from mm_ray.errors import bad_value
from mm_ray.models.encoder import exporting, shipped_name
from mm_ray.models.layers import AttentionPool, Head
from mm_ray.models.network import part_of
from mm_ray.models.onnx_graph import Graph, array
from mm_ray.models.student import Student
from mm_ray.plugins import in_user_code, public_name
from mm_ray.storage import write_bytes

OPSET, IR_VERSION = 18, 8
"""Of 2022: what reads ONNX today reads these."""


def write_onnx(student: Student, path: Path) -> None:
    """Write a student: `waveform` (B, N) float32 and `lengths` (B,) int64 in, `logits` and `probabilities` (B, C) out.

    The waveform is mono in [-1, 1] at the student's rate, `lengths` are samples; B and N are free. What lies behind a
    recording's length changes nothing; a recording that is shorter than a frame is padded with zeros to one. `probabilities`
    are the mean over the recording's windows, and the softmax of `logits`; of a single window `logits` are the network's.

    A student of precomputed features reads `audio` (B, T, F) instead, and its `lengths` are frames. The metadata hold
    `class_names`, `features`, `input`, `sample_rate`, and the windows' `window_frames` and `hop_frames` (JSON).

    Raises:
        UserError: The student's encoder cannot be written as ONNX, or is the user's own and writes no valid lines.

    """
    _check_exportable(student)
    name, build = student.model.audio_encoder, partial(_model, student)
    is_own = not shipped_name(name)
    model = in_user_code("model.audio_encoder", name, "cannot be written as ONNX", build) if is_own else build()
    write_bytes(path, model.SerializeToString())


def _model(student: Student) -> Any:
    """The checked `onnx.ModelProto`."""
    import onnx  # two seconds, which only an export waits for

    windows = windows_in_frames(student.features)
    is_waveform = student.features.audio != PRECOMPUTED
    model = onnx.parser.parse_model(_text(student, _lines(graph := Graph(), student, windows)))
    for node in model.graph.node:
        node.name = node.output[0]  # by which the quantiser leaves some out
    model.graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in graph.tensors.items())
    notes = {
        "class_names": student.class_names,
        "features": vars(student.features) | {"video": public_name(student.features.video)},
        "input": "waveform" if is_waveform else "audio",
        "sample_rate": student.features.sample_rate,
        "window_frames": windows.size,
        "hop_frames": windows.hop,
    }
    onnx.helper.set_model_props(model, {name: json.dumps(note) for name, note in notes.items()})
    onnx.checker.check_model(model, full_check=True)
    return model


def check_features(features: FeatureConfig) -> None:
    """Refuse audio features that cannot be written as ONNX (UserError)."""
    if features.audio not in ("log_mel", PRECOMPUTED):
        why = "they are code of your own" if features.is_own_audio else "the file would hold the pretrained encoder"
        remedy = f"cannot be written as ONNX: {why}; only log_mel and precomputed features can"
        raise bad_value("data.features.audio", features.audio, remedy)


def _check_exportable(student: Student) -> None:
    """Refuse a student whose features or encoder cannot be written as ONNX (UserError)."""
    check_features(student.features)
    if not hasattr(part_of(student.network, "audio.encoder"), "write_onnx"):
        why = f"cannot be written as ONNX; of the encoders here {', '.join(exporting())} can, your own with write_onnx(graph)"
        raise bad_value("model.audio_encoder", student.model.audio_encoder, why)


def _text(student: Student, lines: list[str]) -> str:
    is_waveform, classes = student.features.audio != PRECOMPUTED, len(student.class_names)
    given = "float[B,N] waveform" if is_waveform else f"float[B,T,{student.audio_bins}] audio"
    body = "\n".join(lines)
    return f"""<ir_version: {IR_VERSION}, opset_import: ["" : {OPSET}], producer_name: "mm_ray">
student ({given}, int64[B] lengths) => (float[B,{classes}] logits, float[B,{classes}] probabilities) {{
{body}
}}"""


def _lines(graph: Graph, student: Student, windows: Windows) -> list[str]:
    graph.add("", zero=0, one=1, zero_1=[0], one_1=[1], two_1=[2], minus_one_1=[-1], nothing=0.0, minus_infinity=-np.inf)
    if student.features.audio == PRECOMPUTED:
        _given_frames(graph, student.audio_bins)
    else:
        _log_mel(graph, student.features)
    _cut_windows(graph, windows)
    if student.features.audio == PRECOMPUTED:
        graph.add("features_WTF = Identity(frames_WTF)")
    else:
        _normalise(graph)
    encoder, head = part_of(student.network, "audio.encoder"), part_of(student.network, "audio.head")
    assert isinstance(head, Head)
    encoder.write_onnx(graph)  # type: ignore[operator]
    _classify(graph, head)
    _average(graph, len(student.class_names))
    return graph.lines


def _log_mel(graph: Graph, features: FeatureConfig) -> None:
    """Log energies `mel_BTF` of all whole frames, and their number `frames_B`, at least 1: Kaldi's recipe.

    The DFT is a product with cosines and sines, looked up in a table of one period, so that the file stays small.
    """
    window, hop = frame_samples(features)
    size = 1 << (window - 1).bit_length()
    banks_FK, _ = get_mel_banks(features.num_mels, size, features.sample_rate, LOWEST_HZ, 0.0, 100.0, -500.0, 1.0)
    bins = np.flatnonzero(banks_FK.numpy().any(0))
    bins = np.arange(bins.min(), bins.max() + 1) if len(bins) else np.arange(1)
    turns = 2 * np.pi * np.arange(size) / size
    graph.add(
        """
        samples_1 = Shape <start = 1, end = 2> (waveform)
        positive_B = Max(lengths, zero_1)
        samples_B = Min(positive_B, samples_1)
        samples = Squeeze(samples_1)
        sample_N = Range(zero, samples, one)
        samples_B1 = Unsqueeze(samples_B, one_1)
        is_heard_BN = Less(sample_N, samples_B1)
        heard_BN = Where(is_heard_BN, waveform, nothing)
        padded_BN = Pad(heard_BN, padding)
        further_B = Sub(samples_B, window_1)
        further_least_B = Max(further_B, zero_1)
        shifts_B = Div(further_least_B, hop_1)
        frames_B = Add(shifts_B, one_1)
        most_frames = ReduceMax <keepdims = 0> (frames_B)
        frame_T = Range(zero, most_frames, one)
        begin_T = Mul(frame_T, hop_1)
        begin_T1 = Unsqueeze(begin_T, one_1)
        position_TN = Add(begin_T1, within_N)
        cut_BTN = Gather <axis = 1> (padded_BN, position_TN)
        offset_BT1 = ReduceMean(cut_BTN, two_1)
        centred_BTN = Sub(cut_BTN, offset_BT1)
        first_BT1 = Slice(centred_BTN, zero_1, one_1, two_1)
        others_BTN = Slice(centred_BTN, zero_1, minus_one_1, two_1)
        before_BTN = Concat <axis = 2> (first_BT1, others_BTN)
        low_BTN = Mul(before_BTN, emphasis)
        emphasised_BTN = Sub(centred_BTN, low_BTN)
        tapered_BTN = Mul(emphasised_BTN, taper_N)
        turned_NK = Mul(within_N1, bin_K)
        phase_NK = Mod(turned_NK, period)
        cosine_NK = Gather(cosine, phase_NK)
        sine_NK = Gather(sine, phase_NK)
        real_BTK = MatMul(tapered_BTN, cosine_NK)
        imaginary_BTK = MatMul(tapered_BTN, sine_NK)
        real_squared_BTK = Mul(real_BTK, real_BTK)
        imaginary_squared_BTK = Mul(imaginary_BTK, imaginary_BTK)
        power_BTK = Add(real_squared_BTK, imaginary_squared_BTK)
        energy_BTF = MatMul(power_BTK, banks_KF)
        is_quiet_BTF = Less(energy_BTF, least_energy)
        audible_BTF = Where(is_quiet_BTF, least_energy, energy_BTF)
        mel_BTF = Log(audible_BTF)
        """,
        padding=[0, 0, 0, window],
        window_1=[window],
        hop_1=[hop],
        within_N=np.arange(window),
        within_N1=np.arange(window)[:, None],
        emphasis=PRE_EMPHASIS,
        taper_N=torch.hamming_window(window, periodic=False).numpy(),
        bin_K=bins,
        period=size,
        cosine=np.cos(turns),
        sine=np.sin(turns),
        banks_KF=banks_FK.numpy()[:, bins].T,
        least_energy=LEAST_ENERGY,
        bins_1=[features.num_mels],
    )


def _given_frames(graph: Graph, audio_bins: int) -> None:
    """The given features with zeros behind each length; one frame of zeros where there is none."""
    graph.add(
        """
        given_1 = Shape <start = 1, end = 2> (audio)
        positive_B = Max(lengths, zero_1)
        given_B = Min(positive_B, given_1)
        given = Squeeze(given_1)
        given_T = Range(zero, given, one)
        given_B1 = Unsqueeze(given_B, one_1)
        is_given_BT = Less(given_T, given_B1)
        is_given_BT1 = Unsqueeze(is_given_BT, two_1)
        heard_BTF = Where(is_given_BT1, audio, nothing)
        mel_BTF = Pad(heard_BTF, padding)
        frames_B = Max(given_B, one_1)
        """,
        padding=[0, 0, 0, 0, 1, 0],
        bins_1=[audio_bins],
    )


def _cut_windows(graph: Graph, windows: Windows) -> None:
    """Frames of each window `frames_WTF` with zeros behind its length, and whose it is, `recording_W`.

    As `mm_ray.data.windows` cuts them: a hop apart, the last one at the recording's end.
    """
    graph.add(
        """
        longer_B = Sub(frames_B, window_frames_1)
        last_begin_B = Max(longer_B, zero_1)
        rounded_B = Add(last_begin_B, hop_less_1)
        hops_B = Div(rounded_B, hop_frames_1)
        windows_B = Add(hops_B, one_1)
        most_windows = ReduceMax <keepdims = 0> (windows_B)
        number_M = Range(zero, most_windows, one)
        windows_B1 = Unsqueeze(windows_B, one_1)
        is_window_BM = Less(number_M, windows_B1)
        found_2W = NonZero(is_window_BM)
        recording_W = Gather(found_2W, zero)
        number_W = Gather(found_2W, one)
        regular_W = Mul(number_W, hop_frames_1)
        latest_W = Gather(last_begin_B, recording_W)
        first_W = Min(regular_W, latest_W)
        all_W = Gather(frames_B, recording_W)
        length_W = Min(all_W, window_frames_1)
        longest = ReduceMax <keepdims = 0> (length_W)
        step_T = Range(zero, longest, one)
        stored_1 = Shape <start = 1, end = 2> (mel_BTF)
        row_of_recording_W = Mul(recording_W, stored_1)
        row_W = Add(row_of_recording_W, first_W)
        row_W1 = Unsqueeze(row_W, one_1)
        row_WT = Add(row_W1, step_T)
        flat_shape = Concat <axis = 0> (minus_one_1, bins_1)
        flat_XF = Reshape(mel_BTF, flat_shape)
        gathered_WTF = Gather(flat_XF, row_WT)
        length_W1 = Unsqueeze(length_W, one_1)
        is_frame_WT = Less(step_T, length_W1)
        is_frame_WT1 = Unsqueeze(is_frame_WT, two_1)
        frames_WTF = Where(is_frame_WT1, gathered_WTF, nothing)
        """,
        window_frames_1=[windows.size],
        hop_frames_1=[windows.hop],
        hop_less_1=[windows.hop - 1],
    )


def _normalise(graph: Graph) -> None:
    """`features_WTF`: each bin of a window with mean 0 and variance 1, rounded to half precision as the store is.

    Frames are added one after the other, as numpy does: in a bin that is silent throughout, the mean's last bit decides.
    """
    graph.add(
        """
        longest_1 = Unsqueeze(longest, zero_1)
        whole_W11 = Unsqueeze(length_W1, two_1)
        length_W11 = Cast <to = 1> (whole_W11)
        totals_WTF = CumSum(frames_WTF, one)
        total_W1F = Slice(totals_WTF, minus_one_1, longest_1, one_1)
        mean_W1F = Div(total_W1F, length_W11)
        deviation_WTF = Sub(frames_WTF, mean_W1F)
        own_deviation_WTF = Where(is_frame_WT1, deviation_WTF, nothing)
        squared_WTF = Mul(own_deviation_WTF, own_deviation_WTF)
        all_squares_WTF = CumSum(squared_WTF, one)
        squares_W1F = Slice(all_squares_WTF, minus_one_1, longest_1, one_1)
        variance_W1F = Div(squares_W1F, length_W11)
        spread_W1F = Sqrt(variance_W1F)
        divisor_W1F = Add(spread_W1F, epsilon)
        scaled_WTF = Div(own_deviation_WTF, divisor_W1F)
        half_WTF = Cast <to = 10> (scaled_WTF)
        features_WTF = Cast <to = 1> (half_WTF)
        """,
        epsilon=EPSILON,
    )


def _classify(graph: Graph, head: Head) -> None:
    """Pooling over the real steps, then the classifier: `logits_WC`.

    Features that are no numbers give logits that are none: ONNX Runtime's Relu would make zeros of them.
    """
    if isinstance(head.pool, AttentionPool):
        graph.add(
            """
            attention_product_WTA = MatMul(encoded_WTH, attention_weight)
            attention_sum_WTA = Add(attention_product_WTA, attention_bias)
            attention_WTA = Tanh(attention_sum_WTA)
            score_product_WTA = MatMul(attention_WTA, score_weight)
            score_WTA = Add(score_product_WTA, score_bias)
            own_score_WTA = Where(is_step_WT1, score_WTA, minus_infinity)
            share_WTA = Softmax <axis = 1> (own_score_WTA)
            share_WAT = Transpose <perm = [0, 2, 1]> (share_WTA)
            pooled_WAH = MatMul(share_WAT, encoded_WTH)
            pooled_WH = Flatten(pooled_WAH)
            """,
            attention_weight=array(head.pool.hidden_layer.weight).T,
            attention_bias=array(head.pool.hidden_layer.bias),
            score_weight=array(head.pool.scores.weight).T,
            score_bias=array(head.pool.scores.bias),
        )
    else:
        graph.add("""
            own_WTH = Where(is_step_WT1, encoded_WTH, nothing)
            summed_WH = ReduceSum <keepdims = 0> (own_WTH, one_1)
            is_step_float_WT1 = Cast <to = 1> (is_step_WT1)
            num_steps_W1 = ReduceSum <keepdims = 0> (is_step_float_WT1, one_1)
            pooled_WH = Div(summed_WH, num_steps_W1)
            """)
    graph.add(
        """
        hidden_sum_WH = Gemm <transB = 1> (pooled_WH, hidden_weight, hidden_bias)
        hidden_WH = Relu(hidden_sum_WH)
        network_logits_WC = Gemm <transB = 1> (hidden_WH, class_weight, class_bias)
        zeros_WTF = Mul(features_WTF, nothing)
        damage_W = ReduceSum <keepdims = 0> (zeros_WTF, both_axes)
        damage_W1 = Unsqueeze(damage_W, one_1)
        logits_WC = Add(network_logits_WC, damage_W1)
        """,
        both_axes=[1, 2],
        hidden_weight=array(head.hidden_layer.weight),
        hidden_bias=array(head.hidden_layer.bias),
        class_weight=array(head.classes.weight),
        class_bias=array(head.classes.bias),
    )


def _average(graph: Graph, num_classes: int) -> None:
    """The mean of the windows' probabilities, by way of their logarithms: `probabilities`, and `logits` of the same softmax."""
    graph.add(
        """
        log_WC = LogSoftmax <axis = 1> (logits_WC)
        level_WC = Sub(logits_WC, log_WC)
        recording_W1 = Unsqueeze(recording_W, one_1)
        recordings_1 = Shape(lengths)
        shape_BC = Concat <axis = 0> (recordings_1, classes_1)
        lowest_BC = Expand(minus_infinity, shape_BC)
        nothing_BC = Expand(nothing, shape_BC)
        highest_BC = ScatterND <reduction = "max"> (lowest_BC, recording_W1, log_WC)
        highest_WC = Gather(highest_BC, recording_W)
        relative_log_WC = Sub(log_WC, highest_WC)
        relative_WC = Exp(relative_log_WC)
        relative_BC = ScatterND <reduction = "add"> (nothing_BC, recording_W1, relative_WC)
        levels_BC = ScatterND <reduction = "add"> (nothing_BC, recording_W1, level_WC)
        num_windows_B1 = Cast <to = 1> (windows_B1)
        relative_mean_BC = Div(relative_BC, num_windows_B1)
        log_relative_BC = Log(relative_mean_BC)
        log_BC = Add(highest_BC, log_relative_BC)
        level_BC = Div(levels_BC, num_windows_B1)
        logits = Add(log_BC, level_BC)
        probabilities = Exp(log_BC)
        """,
        classes_1=[num_classes],
    )
