"""What the experiments share; the figures and tables themselves stand beside it.

A command goes through it in this order:

    registry    finds the experiment by the name of its file
    runs        the runs it plans, and what a trained run left in its folder
    training    trains those that are not finished yet; `jobs` several side by side
    comparison  their errors as arrays: methods, each with its grid of rho, over seeds
    claims      the paper's statements against the measurements
    execution   writes settings, arrays, claims and figure into a folder
    report      puts all folders on one page

`sweep` trains a grid of one recipe, here or through submitit, and `dry_run` says what
an experiment would do. `comparison_plots` and `adversarial` serve figures that several
experiments draw alike. `processes` ends what a command has started, and `reproduce`
prints what results depend on bit for bit.
"""
