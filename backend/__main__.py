"""`python -m backend COMMAND`: prepare data, train, evaluate, or see it all at once with `demo`.

python -m backend prepare simulate prepared/demo --patients 1000
python -m backend train --data_dir prepared/demo
python -m backend evaluate runs/NAME/checkpoints/FILE.ckpt --split test
"""

import argparse
import difflib
import importlib
import sys

from shared.errors import InputError

COMMANDS = {
    "prepare": ("backend.prepare", "make a data set that training can map into memory"),
    "preflight": ("backend.preflight", "what a run will take, and what beta will leave of its posterior, before it is begun"),
    "train": ("backend.train", "train SeqSetVAE and watch its posterior; also resumes"),
    "sweep": ("backend.sweep", "many trainings with other options each, chosen by what the earlier ones have shown"),
    "resume": ("backend.branch", "go back to before a collapse, and on from there with a remedy, as a new run"),
    "diagnose": ("backend.diagnose", "report on the posterior of a run, or of TensorBoard logs"),
    "curves": ("backend.curves", "a run or TensorBoard logs as pictures and text: losses, outcome, dynamics, collapse"),
    "visualize": (
        "backend.visualize",
        "a checkpoint as pictures, and on the pages: posterior, latent space, errors, correlation",
    ),
    "import": ("backend.tensorboard_import", "TensorBoard logs become runs that the dashboard shows, also while they grow"),
    "evaluate": ("backend.evaluate", "scores of a checkpoint on a split, as JSON"),
    "umap": ("backend.umap_run", "lay a run's latents out in the plane, aligned over training, for the Latent space page"),
    "demo": ("backend.demo", "simulated stays, training and dashboard, all at once"),
}
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run one command; 2 for bad input, with a message and no traceback.

    Only the command's own module is loaded, which loads what takes seconds, torch above all, when it runs.
    """
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="python -m backend", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        if words[:1] == [name]:
            loaded = importlib.import_module(module)
            command.description = loaded.__doc__
            loaded.add_arguments(command)
    try:
        if words and words[0] not in COMMANDS and not words[0].startswith("-"):
            raise InputError(unknown_command(words[0]))
        args, unknown = parser.parse_known_args([*words[:1], *normalise(words[1:])])
        if unknown:
            raise InputError(unknown_words(unknown, commands.choices[words[0]]))
        return int(args.run(args))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def unknown_command(word: str) -> str:
    """What to say of a word that is no command: the nearest one there is."""
    near = difflib.get_close_matches(word, COMMANDS, n=1)
    return f"unknown command {word!r}; " + (f"did you mean {near[0]!r}?" if near else "see `python -m backend --help`")


def unknown_words(unknown: list[str], command: argparse.ArgumentParser) -> str:
    """What to say of words that no option takes: the nearest option there is."""
    word = next((word for word in unknown if word.startswith("-")), unknown[0])
    known = [option for action in command._actions for option in action.option_strings]
    near = difflib.get_close_matches(word.partition("=")[0], known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"see `{command.prog} --help`"
    return f"unknown option {word!r}; {hint}" if word.startswith("-") else f"unexpected {word!r}; {hint}"


def normalise(words: list[str]) -> list[str]:
    """`--batch-size 4` and `--batch_size=4` are one option; `--no_x` switches x off."""
    out = []
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word.partition("=")
            name = "--" + name[2:].replace("-", "_")
            out.append((name.replace("--no_", "--no-", 1) if name.startswith("--no_") else name) + equals + value)
        else:
            out.append(word)
    return out


if __name__ == "__main__":
    sys.exit(main())
