"""A policy as a file for other programs, and back: `onnx_file` needs torch, `onnx_policy` none."""
