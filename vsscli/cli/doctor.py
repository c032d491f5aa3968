"""``vss doctor``."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from vsscli.cli.options import RUNS, DataRoot, Debug, Json, Quiet, Workspace


def doctor(
    data: DataRoot = None,
    recipe: Annotated[
        str | None, Option("--recipe", metavar="FILE", help="Recipe that says what the data set is.")
    ] = None,
    workspace: Workspace = RUNS,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Look for what is wrong with the installation, and with a data set.

    Every image and mask is decoded, and every fault listed with its remedy. Exits with 2 when there is any.

      vss doctor
      vss doctor --data ROOT
      vss doctor --recipe recipes/camvid/student.yaml
    """
    from vsscli.cli.console import Console
    from vsscli.data.layouts import plain_data
    from vsscli.errors import VssError
    from vsscli.pipeline.environment import check_data, check_recipe_data, examine
    from vsscli.recipes.load import load_recipe

    console = Console(quiet=quiet)
    faults = []
    if recipe is not None:
        faults = check_recipe_data(load_recipe(recipe), data, talk=console)
    elif data is not None:
        faults = check_data(plain_data(data), None, described=False, talk=console)
    found = examine(workspace)
    listed = [(str(fault.path), fault.what, fault.remedy) for fault in faults]
    listed += [("installation", problem.what, problem.remedy) for problem in found.problems]
    if json:
        console.print_json(
            {
                "ok": not listed,
                "versions": found.versions,
                "cores": found.cores,
                "memory": found.memory,
                "disk": found.disk,
                "gpus": found.gpus,
                "faults": [{"where": where, "what": what, "remedy": remedy} for where, what, remedy in listed],
            }
        )
    else:
        memory = "unknown" if found.memory is None else f"{found.memory / 2**30:.1f} GiB"
        rows = [(name, version or "not installed") for name, version in found.versions.items()]
        rows += [("CPU cores", str(found.cores)), ("memory", memory), ("disk free", f"{found.disk / 2**30:.1f} GiB")]
        rows += [("GPU", name) for name in found.gpus or ("none that torch can use",)]
        console.print_table(("what", "found"), rows)
        for where, what, remedy in listed:
            console.print("", f"{where}: {what}", f"  remedy: {remedy}")
    if listed:
        count = "1 fault" if len(listed) == 1 else f"{len(listed)} faults"
        raise VssError(f"{count} found", "each is listed with its remedy")
    console.say("nothing wrong was found")
