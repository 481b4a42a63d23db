"""Accounting: is everything that was lowered there because the ONNX model asks for it?

Every toolchain may be compromised alike, so nothing here compares toolchains. What a build left
behind is read and interpreted by the harness itself and traced back to the source model.
"""
