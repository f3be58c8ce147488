"""The console script `ltts`: Hydra composes a configuration, LightningCLI checks types and runs it.

    ltts fit experiment=demo/reasoner trainer.max_epochs=3   Hydra overrides, groups, -m for sweeps
    ltts fit --config run.yaml --trainer.max_epochs 3        plain LightningCLI
    ltts report logs/demo/search                             the table of a prediction run
    ltts import owner/repository folder                      a published checkpoint
    ltts export logs/demo/reasoner/checkpoints/best.ckpt folder     one that was trained here

The Hydra way writes the composed configuration into the run's folder and hands it to the plain way,
which is also what Lightning starts again in the other processes of a distributed run.
"""

import os
import shlex
import sys
from difflib import get_close_matches
from importlib.metadata import version

from lightning_ltts.cli.config_files import check_config_files
from lightning_ltts.cli.hydra_front import config_folder, run_hydra, wants_hydra
from lightning_ltts.cli.lightning_front import LTTSCLI, run_lightning
from lightning_ltts.cli.messages import fail, one_line_errors
from lightning_ltts.cli.run_guard import OVERWRITE
from lightning_ltts.cli.verbs import import_or_export, report
from lightning_ltts.errors import shorten
from lightning_ltts.monitoring.terminal import QUIET, terminal
from lightning_ltts.stopping import Stopping

USAGE = """usage: ltts COMMAND [experiment=NAME] [KEY=VALUE ...]      (Hydra)
       ltts COMMAND --config FILE [--KEY VALUE ...]        (LightningCLI)

commands:
  fit        train a reasoner, or mine and train a LatentRM
  mine       mine the trajectories that training a LatentRM needs, and no more
  validate   validate a checkpoint         test       test a checkpoint
  predict    search over a problem set     report     sum up prediction files
  tune       choose strength and rules on validation problems, for predict
  list       the experiments, a line each  --version  of the package
  import     any checkpoint to a folder    export     a trained checkpoint to a folder

experiments:
{experiments}

  ltts COMMAND --help                          every option of a command
  ltts COMMAND --model.help CLASS              every option of a model (likewise --data.help)
  ltts COMMAND experiment=NAME --print_config  the composed configuration, without running it
  ltts COMMAND --config-dir DIR experiment=X   finds DIR/experiment/X.yaml too
  ltts fit ... --overwrite                     starts anew in a folder that holds a training
  ltts COMMAND ... --quiet                     errors and the result alone: no bars, no warnings
  ltts predict ... --json                      the summary as one line on stdout; likewise report
"""


def _list_experiments() -> str:
    folder = config_folder() / "experiment"
    lines = []
    for path in sorted(folder.rglob("*.yaml")):
        about = next(
            (x.removeprefix("# ") for x in path.read_text().splitlines()[1:] if x.startswith("# ")),
            "",
        )
        lines.append(f"  {path.relative_to(folder).with_suffix('')!s:24} {about}")
    return "\n".join(lines)


def main() -> None:
    """Runs `ltts`."""
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if command in ("-h", "--help"):
        print(USAGE.format(experiments=_list_experiments()))
        return
    if command in ("--version", "list"):
        print(
            f"ltts {version('lightning-ltts')}" if command == "--version" else _list_experiments()
        )
        return
    with Stopping(shlex.join(["ltts", command, *arguments])), one_line_errors():
        if command == "report":
            report(arguments)
        elif command in ("import", "export"):
            import_or_export(command, arguments)
        elif command in LTTSCLI.subcommands():
            _run(command, arguments)
        else:
            commands = (*LTTSCLI.subcommands(), "report", "import", "export", "list")
            close = get_close_matches(command, commands, 1)
            meant = f"did you mean '{close[0]}'? The commands" if close else "the commands"
            fail(f"{shorten(command)} is not a command; {meant} are {', '.join(commands)}")


def _run(command: str, arguments: list[str]) -> None:
    """A command of LightningCLI, after taking out `--quiet`, `--json` and `--overwrite`."""
    quiet, as_json = "--quiet" in arguments or QUIET in os.environ, "--json" in arguments
    if as_json and command != "predict":
        fail(f"'ltts {command}' has no --json; it is for 'ltts predict' and 'ltts report'")
    if "--overwrite" in arguments and command != "fit":
        fail(f"'ltts {command}' has no --overwrite; it is for 'ltts fit'")
    overwrite = {OVERWRITE: "1"} if "--overwrite" in arguments else {}
    arguments = [
        argument for argument in arguments if argument not in ("--quiet", "--json", "--overwrite")
    ]
    check_config_files(arguments)
    by_hydra = wants_hydra(arguments)
    if quiet and not {"--help", "-h"} & set(arguments):
        arguments.append(
            "trainer.enable_progress_bar=false"
            if by_hydra
            else "--trainer.enable_progress_bar=false"
        )
    argv = sys.argv
    with terminal(quiet, as_json):
        os.environ |= overwrite
        try:
            if by_hydra:
                run_hydra(command, arguments)
            else:
                sys.argv = [argv[0], command, *arguments]
                run_lightning()
        finally:
            sys.argv = argv
            for name in overwrite:
                os.environ.pop(name, None)


if __name__ == "__main__":
    main()
