"""A user's program with axone-autograd installed alone: `mypy --strict` reads the types from the wheel."""

from typing import assert_type

from axone.autograd import Tensor, no_grad
from axone.autograd.optim import AdamW

weight = Tensor([1.0, 2.0], requires_grad=True)
loss = (weight * weight).sum()
assert_type(loss, Tensor)
assert_type(weight @ weight, Tensor)
assert_type(loss.item(), float)
loss.backward()

optimizer = AdamW([weight], lr=0.1)
optimizer.step()
with no_grad():
    after = (weight * weight).sum()
if not after.item() < loss.item():
    raise SystemExit("a step of AdamW must lower the loss")
