"""
A Tensor and its gradient
=========================
"""

from axone.autograd import Tensor

w = Tensor([1.0, 2.0], requires_grad=True)
(w * w).sum().backward()
w.grad
