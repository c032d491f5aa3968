"""Error output of a command: what is wrong, a blank line, a hint. A traceback only with ``--debug``."""

from __future__ import annotations

import difflib
import errno
import re
import signal
import sys
import traceback

import typer

from vsscli.cli.console import uncoloured
from vsscli.errors import VssError
from vsscli.printable import printable, printable_message, printable_text
from vsscli.report.progress import is_first_process

BAD_INPUT = 2
UNEXPECTED = 1
LINES = 12
"""Most lines of an error; the number of omitted lines is shown."""
COLUMNS = 400

# Errors of the system that the user can fix, and how.
REMEDIES = {
    errno.ENOSPC: "free some space, or write to another disk",
    errno.EDQUOT: "free some space, or write to another disk",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "write to another folder",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "use a shorter name",
    errno.ENOTDIR: "check the path: a part of it is not a folder",
    errno.EISDIR: "name a file, not a folder",
    errno.ELOOP: "check the path: its links form a loop",
    errno.EIO: "check the disk",
    errno.ESTALE: "check the network disk",
    errno.EFBIG: "write to a disk that supports large files",
}
TORCH_LACKS_MEMORY = ("DefaultCPUAllocator", "Storage size calculation overflowed", "integer multiplication overflow")


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, handled like Ctrl-C: work that can be continued is left in a state to be continued."""

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__(number)
        self.number = int(number)


def explain(cause: BaseException, *, debug: bool, go_on: str = "") -> int:
    """Say on stderr why the program ends.

    Parameters
    ----------
    cause
        The exception that ended it.
    debug
        Print the traceback first.
    go_on
        How to continue the command if it was interrupted.

    Returns
    -------
    int
        Exit code: 2 for what the user can fix, 128 plus the number of a signal, 1 for what must be a bug.
    """
    if isinstance(cause, typer.Exit):
        return cause.exit_code
    if isinstance(cause, BrokenPipeError):
        return 141
    if isinstance(cause, KeyboardInterrupt | typer.Abort):
        if is_first_process():
            print(f"interrupted; {go_on}" if go_on else "interrupted", file=sys.stderr)
        return 128 + cause.number if isinstance(cause, Terminated) else 130
    if debug:
        print(printable_text("".join(traceback.format_exception(cause))), end="", file=sys.stderr)
    message, hint, code = _reason(cause)
    print(_complaint(message, hint), file=sys.stderr)
    return code


def _reason(cause: BaseException) -> tuple[str, str, int]:
    """Message, hint and exit code for an exception."""
    if isinstance(cause, VssError):
        return cause.message, cause.hint, BAD_INPUT
    if isinstance(cause, typer.TyperException):
        context = getattr(cause, "ctx", None)
        command = context.command_path if context else "vss"
        return _usage(cause), f"`{command} --help` lists the options", BAD_INPUT
    if isinstance(cause, OSError) and cause.errno in REMEDIES:
        place = f"{cause.filename}: " if cause.filename else ""
        return f"{place}{cause.strerror}", REMEDIES[cause.errno], BAD_INPUT
    peers = sys.modules.get("vsscli.inference.peers")
    if peers and peers.is_lost(cause):
        return (
            "another process of this command ended, which this one was exchanging data with",
            "if it said why, that is above; if not, it was killed, probably because memory ran out; what is saved "
            "stays, so run the same command again (`vss train` with --resume)",
            BAD_INPUT,
        )
    if _is_out_of_memory(cause):
        return "not enough memory", "try a smaller --batch-size, or a smaller crop or window in the recipe", BAD_INPUT
    if _is_broken_installation(cause):
        return f"the installation of vss is broken: {_first_line(cause)}", "run `vss doctor`", BAD_INPUT
    pydantic = sys.modules.get("pydantic")
    if pydantic and isinstance(cause, pydantic.ValidationError):
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in cause.errors()]
        return "\n  ".join([f"not a valid {cause.title}", *faults]), "correct these values", BAD_INPUT
    first, name = _first_line(cause), type(cause).__name__
    return (
        f"unexpected {name}{': ' if first else ''}{first}",
        "run again with --debug to see where, and please report it",
        UNEXPECTED,
    )


def _is_out_of_memory(cause: BaseException) -> bool:
    """Whether memory ran out, on the CPU (where torch raises a RuntimeError) or on a device."""
    if isinstance(cause, RuntimeError) and any(sign in str(cause) for sign in TORCH_LACKS_MEMORY):
        return True
    return isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"


def _is_broken_installation(cause: BaseException) -> bool:
    """Whether a library is missing, or torchvision was built for another torch, which raises a RuntimeError."""
    if isinstance(cause, ImportError):
        return not str(cause.name or "").startswith("vsscli")
    return isinstance(cause, RuntimeError) and "torchvision::nms does not exist" in str(cause)


def _first_line(cause: BaseException) -> str:
    return (str(cause).strip().splitlines() or [""])[0]


def _usage(cause: typer.TyperException) -> str:
    """Typer's message in our style: lower case, without pydantic's phrases, with the wrong value."""
    message = cause.format_message().replace("Value error, ", "").replace("\n\t", " ").rstrip(".")
    faults = getattr(cause.__cause__, "errors", None)
    given = faults()[0]["input"] if callable(faults) else None
    if given is not None and repr(given) not in message:
        message += f" (got {given!r})"
    message += _meant(message)
    return message[:1].lower() + message[1:]


OTHER_WORDS = {
    "list": "ls",
    "dir": "ls",
    "copy": "cp",
    "check": ("verify", "validate"),
    "test": ("verify", "validate"),
    "clean": "gc",
    "clear": "gc",
    "prune": "gc",
    "fix": "repair",
    "size": "du",
    "print": "show",
    "cat": "show",
}
"""Names that other programs give to our actions."""


def _meant(message: str) -> str:
    """A suggestion, if the message says that a word is not one of the choices."""
    found = re.fullmatch(r".*?'([^']*)' is not one of ((?:'[^']*'(?:, )?)+).*", message)
    if found is None:
        return ""
    given, choices = found[1].lower(), re.findall(r"'([^']*)'", found[2])
    others = OTHER_WORDS.get(given, ())
    near = [word for word in ((others,) if isinstance(others, str) else others) if word in choices]
    near = near or difflib.get_close_matches(given, choices, n=1)
    return f"; did you mean '{near[0]}'?" if near else ""


def _complaint(message: str, hint: str) -> str:
    """The text of an error, at most `LINES` lines of at most `COLUMNS` characters."""
    tail = ["", f"{_coloured('hint', 36)}: {_one_line(hint)}"] if hint else []
    lines = [line if len(line) <= COLUMNS else f"{line[:COLUMNS]}…" for line in printable_message(message)]
    room = LINES - len(tail)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"  … and {len(lines) - room + 1} more lines"]
    return "\n".join([f"{_coloured('error', 31)}: {lines[0] if lines else 'no message'}", *lines[1:], *tail])


def _one_line(text: str) -> str:
    line = printable(" ".join(text.split("\n")))
    return line if len(line) <= 2 * COLUMNS else f"{line[: 2 * COLUMNS]}…"


def _coloured(word: str, colour: int) -> str:
    return word if uncoloured(sys.stderr) else f"\x1b[1;{colour}m{word}\x1b[0m"
