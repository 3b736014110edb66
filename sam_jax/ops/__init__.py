"""Operations below everything else: what one backend does badly, in forms it does well.

`convolution` and its forms: XLA's convolutions on CPU. `loops`: compiled loops and
convolutions on CPU. On other backends all of this is what JAX has.
"""
