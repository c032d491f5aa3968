"""``vss cache``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument

from vsscli.cli import options as opt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vsscli.cli.console import Console
    from vsscli.pipeline.cache import Entry, Unreadable


def cache(
    action: Annotated[Literal["ls", "du", "verify", "repair", "gc"], Argument(show_default=False)],
    stores: opt.Stores = None,
    workspace: opt.Workspace = opt.RUNS,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Manage prediction stores: those of the workspace, or those named.

    ls lists them; du shows the disk usage of arrays and videos; verify compares every file with its checksum, and exits
    with 2 if one differs; repair drops damaged parts, which the command that made the store then makes again; gc
    removes leftovers of runs that were killed.

      vss cache ls
      vss cache verify --stores a.zarr
    """
    from vsscli.cli.console import Console
    from vsscli.pipeline.cache import collect_leftovers, list_stores, list_unreadable, no_store

    console = Console(quiet=quiet)
    named = stores or ()
    if action == "gc":
        removed = collect_leftovers(workspace, named, talk=console)
        if json:
            console.print_json({"removed": [str(path) for path in removed]})
        else:
            console.print(*(map(str, removed) if removed else ["no leftovers"]))
    elif action in ("verify", "repair"):
        _judge(console, workspace, named, repair=action == "repair", json=json)
    else:
        entries = list_stores(workspace, named)
        unreadable = [] if named else list_unreadable(workspace)
        if not entries and not unreadable:
            raise no_store(workspace)
        if json:
            facts = [entry.to_json(videos=action == "du") for entry in entries]
            console.print_json([*facts, *(store.to_json() for store in unreadable)])
        elif action == "ls":
            _print_list(console, entries, unreadable)
        else:
            for entry in entries:
                _print_usage(console, entry)
        for store in unreadable:
            console.warn(f"{store.cause} ({_size(store.bytes)}): {store.remedy}")


def _judge(console: Console, workspace: Path, named: Sequence[Path], *, repair: bool, json: bool) -> None:
    """Print what is damaged, and with ``repair`` drop it from the stores."""
    from vsscli.errors import VssError
    from vsscli.pipeline.cache import no_store, repair_stores, verify_stores

    verdicts = verify_stores(workspace, named, talk=console)
    if not verdicts:
        raise no_store(workspace)
    faults = [(str(verdict.path), damage) for verdict in verdicts for damage in verdict.damaged]
    mended = repair_stores(verdicts) if repair else []
    if json:
        console.print_json(
            {
                "sound": not faults,
                "damaged": [{"store": path, **damage._asdict()} for path, damage in faults],
                "repaired": [{"store": path, **repaired._asdict()} for path, repaired in mended],
            }
        )
    elif faults:
        rows = [(path, d.video, "all" if d.segment is None else d.segment, d.what) for path, d in faults]
        console.print_table(("store", "video", "segment", "damage"), rows)
    else:
        console.print(f"{len(verdicts)} {'store' if len(verdicts) == 1 else 'stores'}, nothing damaged")
    if faults and not repair:
        count = len({(path, damage.video) for path, damage in faults})
        raise VssError(
            f"{count} damaged {'video' if count == 1 else 'videos'} found",
            "`vss cache repair` drops the damaged parts; the command that made the store then makes only those again",
        )
    if faults:
        console.say("damaged parts dropped; the command that made the store makes them again")


def _print_list(console: Console, entries: Sequence[Entry], unreadable: Sequence[Unreadable]) -> None:
    rows: list[tuple[object, ...]] = []
    for entry in entries:
        data, videos = entry.header.data, entry.usage.videos
        frames = sum(video.frames for video in videos)
        kind, split = entry.header.kind, f"{data.get('name')}/{data.get('split')}"
        rows.append((kind, split, len(videos), frames, _size(entry.usage.total), entry.state, str(entry.path)))
    for store in unreadable:
        where = f"{store.path.parent.parent.name}/{store.path.parent.name}"
        rows.append(("-", where, "-", "-", _size(store.bytes), "unreadable", str(store.path)))
    console.print_table(("kind", "data", "videos", "frames", "size", "state", "store"), rows)


def _print_usage(console: Console, entry: Entry) -> None:
    usage = entry.usage
    names = tuple(usage.arrays)
    rows: list[tuple[object, ...]] = []
    for video in usage.videos:
        sizes = [_size(video.bytes[name]) for name in names]
        rows.append((video.name, f"{video.present}/{video.frames}", *sizes, _size(sum(video.bytes.values()))))
    rows.append(("all videos", "", *(_size(usage.arrays[name]) for name in names), _size(sum(usage.arrays.values()))))
    console.print_table(("video", "frames", *names, "sum"), rows, str(entry.path))
    beside = f"metadata {_size(usage.metadata)}, leftovers {_size(usage.leftovers)}"
    console.print(f"{beside}, total {_size(usage.total)}")


def _size(count: int) -> str:
    """`1.5 MB`, in powers of ten, as disks are labelled."""
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, 4)
    return f"{count / 1000**power:.1f} {' kMGT'[power]}B"
