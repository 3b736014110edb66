"""`python -m sam_jax.train --config=configs/digits.py:sam --workdir=DIR`.

Trains a recipe into a work directory; the same command again resumes it. A key of the
recipe is overridden by a flag of its name: `--config.sam.rho=0.1`.

Exit status: 0; 2 for a configuration, data set or work directory that is refused; 1 for
a run that could not go on (a loss that is not finite, a full disk); 128 plus the number
of the signal for one that SIGINT (130), SIGUSR1 (138), SIGUSR2 (140) or SIGTERM (143)
has ended: the step under way was finished, and its state saved.
"""

import pathlib
import re
import runpy
import sys
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from sam_jax import extras

if TYPE_CHECKING:
    from sam_jax.training.loop import Run

with extras.needed_by_command("sam_jax.train", "train"):
    from absl import app, flags, logging
    from ml_collections import config_flags

    from sam_jax import usage
    from sam_jax.training import recipes, trackers
    from sam_jax.training.configuration import check_key

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file(
    "config", help_string="Recipe to train, as configs/NAME.py:VARIANT."
)
flags.DEFINE_string("workdir", None, "Directory to write to, and to resume from.")
flags.DEFINE_bool("dry_run", False, "Say what the run would take; train nothing.")
flags.DEFINE_bool("quiet", False, "Say nothing but errors.")
flags.DEFINE_string("tracker", "", "Also send the metrics to one of trackers.TRACKERS.")
flags.DEFINE_string("coordinator", "", "host:port of process 0 of several; '' for one.")
flags.DEFINE_integer("process_id", 0, "Number of this process, from 0.")
flags.DEFINE_integer("process_count", 1, "Number of processes.")


def main(argv: Sequence[str]) -> int:
    """Trains what the flags say; returns the exit status."""
    if wrong := _wrong(argv):
        return _refuse(wrong)
    workdir = pathlib.Path(FLAGS.workdir).expanduser()
    # Imported once the flags are known to be good: it takes seconds.
    from sam_jax.training import interruption, loop, parallel, startup
    from sam_jax.training.errors import TrainingError

    try:
        startup.use_compilation_cache()
        with interruption.ends_program():
            try:
                parallel.connect(
                    FLAGS.coordinator, FLAGS.process_id, FLAGS.process_count
                )
                trackers.check(FLAGS.tracker)
                run = loop.prepare(FLAGS.config, workdir, claim=not FLAGS.dry_run)
            except (ValueError, OSError, ImportError) as error:
                return _alone(_refuse(error))
            said = _estimate(run) if FLAGS.dry_run else _train(run)
    except TrainingError as error:
        status = _refuse(error, status=error.status)
        return status if error.together else _alone(status)
    except OSError as error:
        said = f"{error}. What was saved stays; run it again."
        return _alone(_refuse(said, status=1))
    except KeyboardInterrupt:  # asked for a second time
        said = "Interrupted; the same command goes on from what was saved before, if "
        return _alone(_refuse(said + "anything was.", status=130))
    if parallel.is_first_process() and not FLAGS.quiet:
        print(said)
    return 0


def _train(run: "Run") -> str:
    """Trains it; what to say at its end."""
    from sam_jax.training import loop, summary

    result = loop.train(run, silent=FLAGS.quiet, tracker=FLAGS.tracker)
    where = f"Summary, curves, metrics and checkpoints: {run.workdir}"
    return f"{summary.table({run.label: result})}\n{where}"


def _estimate(run: "Run") -> str:
    """What it would take."""
    from sam_jax.training import estimate

    found = estimate.estimate(run).table()
    return f"{found}\nNothing was trained and nothing was written."


def _wrong(argv: Sequence[str]) -> str:
    """What is wrong with the flags that are there; "" for nothing."""
    if len(argv) > 1:
        return f"Unknown arguments {argv[1:]}; every option starts with --."
    for name in ("config", "workdir"):
        if FLAGS[name].value is None:
            return f"Give --{name}: {FLAGS[name].help}"
    if not FLAGS.workdir.strip():
        return "Received an empty --workdir; give a directory to write to."
    return ""


def _alone(status: int) -> int:
    """The status of a process that the others know nothing of: one of several ends
    here, since an ordinary end would wait for them, and they for it.
    """
    import jax

    from sam_jax.training import liveness

    if FLAGS.coordinator and jax.process_count() > 1:
        liveness.end(jax.process_index(), status)
    return status


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses all flags, and ends with one line for a wrong one."""
    asked = {argument.lstrip("-") for argument in argv[1:] if argument[:1] == "-"}
    if asked & {"help", "h", "helpshort", "?"}:
        _tell(usage.help(recipes.names(), list(trackers.TRACKERS)))
    if "helpkeys" in asked:
        _tell(usage.keys())
    if "helpfull" in asked:
        _tell(FLAGS.get_help())
    try:
        argv = re.sub(r"(^|\n)(--?config)\n", r"\1\2=", "\n".join(argv)).split("\n")
        for i, argument in enumerate(argv):
            if override := re.match(r"--?(?:no)?config\.([^=]+)", argument):
                check_key(override[1])
            elif recipe := re.match(r"--?config=([^:]*)", argument):
                path = recipes.find(recipe[1])
                _check_recipe(path)
                argv[i] = f"--config={path}{argument[recipe.end() :]}"
        remaining = FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        unknown = f"Unknown flag --{error.flagname}"
        sys.exit(_refuse(f"{unknown}: {usage.meant_by(error.flagname)}"))
    except (flags.Error, LookupError, AttributeError, TypeError, ValueError) as error:
        sys.exit(_refuse(error))
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    return remaining


def _tell(text: str) -> NoReturn:
    """Prints it and ends well."""
    print(text)
    sys.exit(0)


def _check_recipe(path: pathlib.Path) -> None:
    """Raises ValueError unless a recipe can be read and run.

    With an override on the command line, ml_collections answers a recipe that fails
    with two tracebacks.
    """
    try:
        recipe = runpy.run_path(str(path))
    except Exception as error:  # a recipe is Python, and may raise anything
        raise ValueError(
            f"The recipe {path} cannot be run ({type(error).__name__}: {error})."
        ) from error
    if "get_config" not in recipe:
        raise ValueError(
            f"The recipe {path} defines no get_config(variant) -> ConfigDict."
        )


def _refuse(error: Exception | str, status: int = 2) -> int:
    """Says what is wrong in one line on stderr; `--verbosity=1` adds the traceback."""
    if isinstance(error, Exception) and logging.get_verbosity() > 0:
        traceback.print_exception(error)
    text = str(error).strip()
    if "Traceback" in text:  # ml_collections' account of an error in the recipe's file
        text = text.splitlines()[-1].partition(": ")[2]
    print("sam_jax.train:", " ".join(text.split()), file=sys.stderr)
    return status


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
