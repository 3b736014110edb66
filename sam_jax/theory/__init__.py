"""The convergence bounds of App. B as functions of their constants.

`corrected` holds every bound in the form that has a proof, `printed` those that stand
otherwise in the paper, under the same name: `corrected.proposition_11_distance` and
`printed.proposition_11_distance`. `constants` are what both speak of.
"""
