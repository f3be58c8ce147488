"""The console script `ltts`: Hydra composes a configuration, LightningCLI checks types and runs it.

    ltts fit experiment=demo/reasoner trainer.max_epochs=3   Hydra overrides, groups, -m for sweeps
    ltts fit --config run.yaml --trainer.max_epochs 3        plain LightningCLI
    ltts report logs/demo/search                             the table of a prediction run
    ltts import owner/repository folder                      a published checkpoint
    ltts export logs/demo/reasoner/checkpoints/best.ckpt folder     one that was trained here
    ltts push folder owner/name                              and to the Hugging Face Hub

The Hydra way writes the composed configuration into the run's folder and hands it to the plain way,
which is also what Lightning starts again in the other processes of a distributed run.

What needs no model is answered without importing PyTorch or Lightning, which takes seconds: pages
of help, lists, and mistakes in the command line that Hydra finds. So heavy modules are imported
inside of the functions that need them.
"""

import os
import shlex
import sys

from lightning_ltts.cli.choices import list_experiments, own_folders
from lightning_ltts.cli.commands import (
    COMMANDS,
    HELP_ALL,
    HELP_FLAGS,
    OVERWRITE,
    command_page,
    unknown_command,
    usage,
)
from lightning_ltts.cli.messages import fail, one_line_errors
from lightning_ltts.monitoring.terminal import QUIET, hushed, terminal
from lightning_ltts.stopping import Stopping


def main() -> None:
    """Runs `ltts`."""
    command, arguments = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if command in HELP_FLAGS:
        print(usage())
        return
    if command == "--version":
        from importlib.metadata import version

        print(f"ltts {version('lightning-ltts')}")
        return
    with Stopping(shlex.join(["ltts", command, *arguments])), one_line_errors():
        if command == "list":
            print(list_experiments(own_folders(arguments)))
        elif command in ("-sc", "--shell-completion"):
            from lightning_ltts.cli.completion import complete

            complete(arguments)
        elif command not in COMMANDS:
            fail(unknown_command(command))
        elif not COMMANDS[command].composed:
            _run_verb(command, arguments)
        elif HELP_FLAGS & set(arguments):
            print(command_page(command, arguments))
        else:
            _run(command, arguments)


def _run_verb(command: str, arguments: list[str]) -> None:
    """A command that needs no Trainer."""
    from lightning_ltts.cli.new_task import init
    from lightning_ltts.cli.verbs import import_or_export, lm_eval, push, report

    if command == "init":
        init(arguments)
    elif command == "report":
        report(arguments)
    elif command == "push":
        push(arguments)
    elif command == "lm-eval":
        lm_eval(arguments)
    else:
        import_or_export(command, arguments)


def _run(command: str, arguments: list[str]) -> None:
    """A command of LightningCLI, after taking out `--quiet`, `--json` and `--overwrite`."""
    from lightning_ltts.cli.config_files import check_config_files
    from lightning_ltts.cli.hydra_front import run_hydra, wants_hydra
    from lightning_ltts.cli.plan import run_plan

    quiet, as_json = "--quiet" in arguments or QUIET in os.environ, "--json" in arguments
    if as_json and command != "predict":
        fail(f"'ltts {command}' has no --json; it is for 'ltts predict' and 'ltts report'")
    if "--overwrite" in arguments and command != "fit":
        fail(f"'ltts {command}' has no --overwrite; it is for 'ltts fit'")
    overwrite = {OVERWRITE: "1"} if "--overwrite" in arguments else {}
    arguments = [
        argument for argument in arguments if argument not in ("--quiet", "--json", "--overwrite")
    ]
    if command == "plan":
        run_plan(arguments)
        return
    if HELP_ALL in arguments:
        arguments = ["--help"]
    check_config_files(arguments)
    by_hydra = wants_hydra(arguments)
    if quiet and "--help" not in arguments:
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
                from lightning_ltts.cli.lightning_front import run_lightning

                sys.argv = [argv[0], command, *arguments]
                with hushed():
                    run_lightning()
        finally:
            sys.argv = argv
            for name in overwrite:
                os.environ.pop(name, None)


if __name__ == "__main__":
    main()
