from act_model.export.onnx_file import export_onnx
from act_model.export.onnx_policy import OnnxPolicy
from act_model.export.records import ExportReport

__all__ = ["ExportReport", "OnnxPolicy", "export_onnx"]
