"""``vss doctor``."""

from __future__ import annotations

from vsscli.cli import options as opt


def doctor(
    data: opt.DataRoot = None,
    recipe: opt.RecipeOfData = None,
    workers: opt.Workers = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Check the installation, a data set, or everything that a recipe needs.

    Every image and mask is decoded, and every fault is listed with its remedy. Exits with 2 if there is any. The report
    also lists what was checked and what was not.

      vss doctor
      vss doctor --data ROOT
      vss doctor --recipe recipes/camvid/student.yaml
    """
    from vsscli.cli.console import Console
    from vsscli.data.layouts import plain_data
    from vsscli.errors import VssError
    from vsscli.pipeline.environment import inspect_environment
    from vsscli.pipeline.inspection import Inspection, inspect_data, inspect_recipe
    from vsscli.recipes.load import load_recipe

    console = Console(quiet=quiet)
    seen = Inspection(looked=["the installation"])
    if recipe is not None:
        seen.add(inspect_recipe(load_recipe(recipe), data, workers=workers, talk=console))
    elif data is not None:
        seen.add(inspect_data(plain_data(data), None, described=False, workers=workers, talk=console))
    else:
        seen.missed.append("data: name a folder with --data ROOT or a recipe with --recipe FILE")
    found = inspect_environment(workspace)
    listed = [(str(fault.path), fault.what, fault.remedy) for fault in seen.faults]
    listed += [("installation", problem.what, problem.remedy) for problem in found.problems]
    warned = [(str(fault.path), fault.what, fault.remedy) for fault in seen.warnings]
    if json:
        console.print_json(
            {
                "ok": not listed,
                "versions": found.versions,
                "cores": found.cores,
                "memory": found.memory,
                "disk": found.disk,
                "gpus": found.gpus,
                "faults": [dict(zip(("where", "what", "remedy"), fault, strict=True)) for fault in listed],
                "warnings": [dict(zip(("where", "what", "remedy"), fault, strict=True)) for fault in warned],
                "looked_at": seen.looked,
                "not_looked_at": seen.missed,
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
        for where, what, remedy in warned:
            console.print("", f"warning: {where}: {what}", *([f"  remedy: {remedy}"] if remedy else []))
        console.print("", "checked:", *(f"  {line}" for line in seen.looked))
        if seen.missed:
            console.print("not checked:", *(f"  {line}" for line in seen.missed))
    if listed:
        count = "1 fault" if len(listed) == 1 else f"{len(listed)} faults"
        raise VssError(f"{count} found", "each is listed above with its remedy")
    if warned:
        count = "1 warning is" if len(warned) == 1 else f"{len(warned)} warnings are"
        console.say(f"no fault found, but {count} listed: {warned[0][1]}{' …' if len(warned) > 1 else ''}")
    else:
        console.say("no fault found in what was checked")
