"""A student as a folder to give away: ONNX from waveform to label, a program without torch, and a model card."""
