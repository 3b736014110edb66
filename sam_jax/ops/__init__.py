"""Forms of some operations that are fast where XLA's own are slow.

`convolution` and its forms: XLA's convolutions on CPU. `loops`: compiled loops and
convolutions on CPU. On other backends all of this is what JAX has. `layouts`:
operations on arrays that lie on a mesh of Explicit axes.
"""
