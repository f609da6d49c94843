"""Makes one message of the output of a pip that failed: pip's lines that name the fault, the requirement, a hint."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from kong_pdk.masking import MASK
from kong_pdk.packages.pip import BUILD_REFUSED, Outcome, normalized
from kong_pdk.packages.requirements import Line, name_of

BUILD_HINT = (
    "ask for a version that has a wheel, or set KONG_PYTHON_INSTALL=on, which runs the code that builds it (in an "
    "image of your own: RUN KONG_PYTHON_INSTALL=on kong-python install)"
)
"""For a package that is available only as source where only wheels are installed."""

CRASHED = "pip crashed: "
"""Replaces a traceback; the exception follows."""

_MOST_LINES = 4
_LOG_HINT = "the log has the whole output of pip"

# The first pattern that is found in the message gives the hint.
_HINTS = (
    (r"No module named pip", f"install pip: {sys.executable} -m ensurepip"),
    (r"(?i)certificate", "let PIP_CERT name the file of the certificate authority"),
    (
        r"Could not fetch URL|ConnectionPool|Failed to .*connect|Unable to fetch",
        "check the container's network, the address (PIP_INDEX_URL, --index-url, or the URL of the line), and "
        "HTTPS_PROXY where there is a proxy",
    ),
    (
        r"conflict is caused by",
        "ask for versions that fit together; a constraint is kong-python's or of a -c file",
    ),
    (r"DO NOT MATCH THE HASHES", "find out which hash is right before you change it"),
    (r"--require-hashes", "pin every package with == and give its hash"),
    (
        r"Could not find a version",
        f"fix the name or the version; this is Python {platform.python_version()} on {platform.machine()}",
    ),
    (r"Cannot find command", "name an archive instead, or install the command in an image of your own"),
    (r": (?:git|hg|svn|bzr) ", "fix the address, or let this host reach it"),
    (re.escape(BUILD_REFUSED), BUILD_HINT),
    (
        r"^(?:Processing|Collecting|Obtaining|Building|Running) ",
        "ask for a version that has a wheel, or build one where there is a compiler and install that wheel",
    ),
    (
        re.escape(CRASHED),
        "check the options and URLs of the requirements; pip install -r by hand shows the traceback",
    ),
)

_PLACE = re.compile(r"[: ]*\((?:from )?(?:(\S+?)->)?-r (.+?) \(line (\d+)\)\)|[: ]*\(from line (\d+) of (.+?)\)")
_ERROR_CODE = re.compile(r"[a-z]+(?:-[a-z]+)+")  # such as metadata-generation-failed: the next line explains it
_NOISE = re.compile(
    r"<pip\._vendor\.\S+ object at 0x\w+>: |Max retries exceeded with url: \S+ | - skipping$"
    r"|If you have updated the package versions, .* tampered with them\."
)
_TRACEBACK = re.compile(r"^(?:ERROR: Exception:\n)?Traceback \(most recent call last\):\n", re.M)
# The exception is below the indented lines of its traceback. Further lines of its message are left out.
_EXCEPTION = re.compile(r"^[ \t][^\n]*\n([A-Za-z_][\w.]*)(?:: ([^\n]*))?$", re.M)
_LATER = re.compile(r"^(?:ERROR|WARNING|error): (?!Exception:).*$", re.M)
# These errors quote the URL, or a part of it, without the rest that would show which part is secret.
_URL_ERRORS = re.compile(r"(?:.*\.)?(?:InvalidURL|LocationParseError|InvalidSchema|InvalidProxyURL|MissingSchema)")


class Reason(NamedTuple):
    """Why packages cannot be installed; ``file`` and ``line`` belong to the requirement, if they are known."""

    message: str
    hint: str
    line: int | None = None
    file: Path | None = None


def explain(outcome: Outcome, lines: Sequence[Line] = ()) -> Reason:
    """Find the reason in the output of pip.

    :param lines: the lines of the requirements file and of the files that it includes.
    """
    fault = _fault(outcome)
    message = re.sub(r"(\(from versions: ).*, ((?:[^,]+, ){4}[^,]+\))", r"\1..., \2", _PLACE.sub(_without_place, fault))
    hint = _hint(outcome, message)
    if found := _PLACE.search(fault):
        return Reason(message, hint, int(found[3] or found[4]), Path(found[2] or found[5]))
    # The last word is closest to the requirement: "... the requirement nosuch>=3 (from deep)".
    for word in reversed(re.findall(r"-{0,2}[A-Za-z0-9](?:[\w.-]*\w)?", message)):
        if line := next((line for line in lines if _is_about(line.text, word)), None):
            return Reason(message, hint, line.number, line.file)
    return Reason(message, hint)


def _is_about(line: str, word: str) -> bool:
    """Whether a word is the name of the package of a line, its option, or the host of a URL in it."""
    return (
        normalized(word) == name_of(line)
        or re.split(r"[\s=]", line, maxsplit=1)[0] == word
        or word in re.findall(r"://(?:\S*@)?([\w.-]+)", line)
    )


def _fault(outcome: Outcome) -> str:
    """Give the few lines of pip's output that name the fault, as one line."""
    output = outcome.output
    _, conflict, block = output.partition("The conflict is caused by:\n")
    if conflict:
        causes = [line.strip() for line in block.partition("\n\n")[0].splitlines()]
        return f"The conflict is caused by: {', '.join(causes[:_MOST_LINES])}"
    # pip goes on without an index that it cannot fetch, and says at the end that there is no such package.
    fetches = re.findall(r"^Could not fetch URL (?!\S+ 404 ).* - skipping$", outcome.log, re.M)
    if fetches and "No matching distribution" in output:
        return _NOISE.sub("", fetches[-1])
    errors = _errors(output)
    steps = re.findall(
        r"^ *(?:\u00d7 )?(.+)(?: did not run successfully\.|: finished with status 'error')$", output, re.M
    )
    if steps:
        step = steps[-1]
        collected = re.findall(r"^(?:Collecting|Processing|Obtaining) .+", output, re.M)
        last = [line.strip() for line in outcome.build.splitlines()[1:] if line.strip()] or errors
        return ": ".join([*([] if " for " in step else collected[-1:]), step, *last[-1:]])
    last = [line.strip() for line in output.splitlines() if line.strip()]
    return ": ".join(errors[:_MOST_LINES] or last[-1:] or ["pip wrote nothing"])


def _errors(output: str) -> list[str]:
    """Give the error lines, each with the lines that belong to it."""
    errors: list[str] = []
    belongs = False
    for line in output.splitlines():
        error = re.match(r"(?:ERROR|(?:\S+: )?error): (.*)", line)
        belongs = error is not None or (belongs and re.match(r"\s*$|\s|Hint: |\u00d7 |\u2570", line) is not None)
        text = _NOISE.sub("", error[1] if error else line.lstrip(" \u00d7\u2570\u2500>^")).rstrip(" .:")
        text = " ".join(text.split())
        repeated = text in " ".join(errors) or text.startswith("No matching distribution found")
        if belongs and text and not repeated and not _ERROR_CODE.fullmatch(text):
            errors.append(text)
    return errors


def _hint(outcome: Outcome, message: str) -> str:
    # A compiler's message about a full disk is not its last one.
    if re.search(r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded", outcome.output + outcome.log):
        return "give KONG_PYTHON_DATA_DIR more room"
    if _is_only_source(outcome, message):
        hint = "ask for a version that has a wheel, or unset PIP_ONLY_BINARY" if outcome.building else BUILD_HINT
        return f"the index has only its source: {hint}"
    return next((hint for pattern, hint in _HINTS if re.search(pattern, message)), _LOG_HINT)


def _is_only_source(outcome: Outcome, message: str) -> bool:
    """Whether pip has skipped source archives of the package, or of the version, that it cannot find."""
    found = re.search(r"satisfies the requirement ([\w.-]+)(\S*) .*\(from versions: (.+)\)", message)
    if not found:
        return False
    name, specifier, versions = found.groups()
    pinned = re.search(r"={2,3}([^,*]+)$", specifier)
    if not pinned and versions != "none":
        return False
    begin = normalized(f"{name}-{pinned[1]}-" if pinned else f"{name}-")
    skipped = re.findall(r"No sources permitted for \S+: [^\s#?]*/([^\s#?]+)", outcome.log)
    return any(normalized(archive).startswith(begin) for archive in skipped)


def _without_place(found: re.Match[str]) -> str:
    return f" (from {found[1]})" if found[1] else ""


def without_traceback(output: str, secrets: Collection[str]) -> str:
    """Replace a traceback by one line with the exception: tracebacks quote parts of URLs, and so of passwords.

    :param secrets: quoted text that is a part of one is masked.
    """
    begin = _TRACEBACK.search(output)
    if not begin:
        return output
    last = [*_TRACEBACK.finditer(output)][-1]
    raised = _EXCEPTION.search(output, last.end())
    text = _exception(raised[1], raised[2] or "", secrets) if raised else "without a message"
    later = _LATER.findall(output, raised.end()) if raised else []
    return "\n".join([f"{output[: begin.start()]}ERROR: {CRASHED}{text}", *later, ""])


def _exception(kind: str, message: str, secrets: Collection[str]) -> str:
    if _URL_ERRORS.fullmatch(kind):
        message = "a URL cannot be parsed"
    elif kind == "ValueError":
        message = re.sub(r"(['\"]).*\1", MASK, message)
    else:

        def mask(found: re.Match[str]) -> str:
            return MASK if any(found[2] in secret for secret in secrets) else found[0]

        message = re.sub(r"(['\"])([^'\"]+)\1", mask, message)
    name = kind.rpartition(".")[2]
    return f"{name}: {message}" if message else name
