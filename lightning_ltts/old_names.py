"""Modules that have moved, under the names that checkpoints, YAML files and scripts written before may hold.

`import lightning_ltts.data.mining` and a `class_path` in it go on working: the old name finds a module that looks each
attribute up where it stands now. Old names of classes inside checkpoints are registered where the classes are defined.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED = {  # old module -> the modules that hold its names now
    "lightning_ltts.analysis.plots": (
        "lightning_ltts.report.accuracy_figures",
        "lightning_ltts.report.score_figures",
    ),
    "lightning_ltts.analysis.report": ("lightning_ltts.report.page",),
    "lightning_ltts.analysis.runs": ("lightning_ltts.report.runs",),
    "lightning_ltts.data.mining": (
        "lightning_ltts.mining.data",
        "lightning_ltts.mining.mine",
        "lightning_ltts.mining.store",
    ),
    "lightning_ltts.data.trajectory_store": ("lightning_ltts.mining.store", "lightning_ltts.files"),
    "lightning_ltts.metrics": (),
    "lightning_ltts.metrics.per_question": ("lightning_ltts.voting.per_question",),
    "lightning_ltts.monitoring.run_record": ("lightning_ltts.cli.run_record",),
    "lightning_ltts.search.adaptive": ("lightning_ltts.voting.adaptive",),
    "lightning_ltts.search.scoring": ("lightning_ltts.voting.scoring",),
    "lightning_ltts.search.selection": ("lightning_ltts.voting.selection",),
}


class _OldModule(ModuleType):
    """A module that has moved."""

    def __getattr__(self, name: str) -> Any:
        for module in () if name.startswith("__") else MOVED[self.__name__]:
            found = importlib.import_module(module)
            if hasattr(found, name):
                return getattr(found, name)
        raise AttributeError(
            f"module '{self.__name__}' has moved, and '{name}' is not in {', '.join(MOVED[self.__name__])}"
        )


class _OldModules(MetaPathFinder, Loader):
    """Finds old names, after all that exists."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The moved module, where the name is one of `MOVED`."""
        if fullname not in MOVED:
            return None
        return ModuleSpec(
            fullname, self, is_package=any(name.startswith(f"{fullname}.") for name in MOVED)
        )

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """An empty module; its attributes are looked up when they are asked for."""
        return _OldModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """There is nothing to run."""


if not any(isinstance(finder, _OldModules) for finder in sys.meta_path):
    sys.meta_path.append(_OldModules())
