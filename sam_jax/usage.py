"""What the training command says of itself: its help, its keys, and wrong flags."""

import difflib
import textwrap

from sam_jax.training.keys import KEYS

HELP = """\
Trains a recipe into a folder; the same command again resumes it.

  python -m sam_jax.train --config=configs/digits.py:sam --workdir=/tmp/digits
  python -m sam_jax.train --config=configs/digits.py:erm --workdir=/tmp/erm --dry_run
  python -m sam_jax.train --config=configs/digits.py:sam --workdir=/tmp/sum_max \\
      --config.sam.kind=sum_max --config.sam.m=4 --config.sam.rho=0.1

Flags:
  --config=FILE.py:VARIANT  the recipe; several variants are joined by commas, and
                            "smoke" runs in seconds. Here are:
{recipes}
  --config.KEY=VALUE        one key of the recipe, such as --config.sam.rho=0.1;
                            --helpkeys lists them all
  --workdir=DIR             folder to write to, and to resume from
  --dry_run                 say steps, parameters, memory and time; train nothing
  --quiet                   say nothing but errors
  --tracker=NAME            also send the metrics to {trackers}
  --coordinator=HOST:PORT --process_count=N --process_id=I
                            for several processes: where process 0 listens, how many
                            there are, and which one this is
  --verbosity=1             add the traceback to an error
  --helpkeys, --helpfull    all keys of a recipe; all flags of absl

DIR gets config.json, metrics.jsonl, TensorBoard events, curves.png, summary.json and
checkpoints/. Exit status: 0; 2 for what is refused; 1 for a run that could not go on;
128 plus its number for a signal, after which the step under way is saved."""
INDENT = " " * 28
# The flags of ours, which a wrong one may have meant.
FLAGS = (
    *("config", "workdir", "dry_run", "quiet", "tracker", "coordinator"),
    *("process_id", "process_count", "verbosity", "help", "helpkeys", "helpfull"),
)


def help(recipes: list[str], trackers: list[str]) -> str:
    """What --help prints, with the names there are."""
    listed = textwrap.fill(
        ", ".join(recipes), 88, initial_indent=INDENT, subsequent_indent=INDENT
    )
    return HELP.format(recipes=listed, trackers=" or ".join(trackers))


def keys() -> str:
    """Every key of a configuration: its default, meaning and range."""
    part = ""
    lines = ["Keys of a recipe: --config.KEY=VALUE (default; values allowed)."]
    for name, key in KEYS.items():
        room = name.split(".")[0] if "." in name else ""
        if room != part:
            lines.append("")
            part = room
        about = f"{key.meaning} ({key.default!r}; {key.allowed})"
        lines.append(f"  {name}")
        lines += textwrap.wrap(
            about, 88, initial_indent="      ", subsequent_indent="      "
        )
    return "\n".join(lines)


def meant_by(flag: str) -> str:
    """What an unknown flag may have meant, in a sentence."""
    name = flag.lstrip("-").partition("=")[0]
    same = [key for key in KEYS if key.split(".")[-1] == name or key == name]
    near = difflib.get_close_matches(name, FLAGS, n=1)
    if same:
        return f"keys of a recipe are given as --config.{same[0]}=VALUE."
    if near:
        return f"did you mean --{near[0]}?"
    return "--help lists all flags, and --helpkeys the keys of a recipe."
