"""Makes one message of what pip writes when it fails: what is wrong, on which line, and what to do."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from kong_pdk.masking import MASK, masked
from kong_pdk.packages.pip import BUILD_REFUSED, Outcome, normalized
from kong_pdk.packages.requirements import EncodingError, Line, decode

_MOST_VERSIONS = 5
_MOST_CHARACTERS = 300
BUILD_HINT = (
    "ask for a version that has a wheel, or set KONG_PYTHON_INSTALL=on, which runs the code that builds it (in an "
    "image of your own: RUN KONG_PYTHON_INSTALL=on kong-python install)"
)
"""What to do where a package is only there as source, and wheels alone are wanted."""

_BUILD_HINT = "ask for a version that has a wheel, or build one where there is a compiler and install that"
_NETWORK_HINT = (
    "check the container's network, the address (PIP_INDEX_URL, --index-url, or the URL of the line), and HTTPS_PROXY "
    "where there is a proxy"
)
_REFUSED = re.compile(r"Could not fetch URL (\S+): (.+) - skipping$", re.MULTILINE)
_UNREACHABLE = re.compile(
    r"(\[Errno -?\d+\] [^'\")\n]+|Name or service not known|timed out|too many \d+ error responses|"
    r"Tunnel connection failed: [^'\")\n]+|Remote end closed connection without response)"
)
_POOL = re.compile(r"HTTPS?ConnectionPool\(host='([^']+)'")
_NOT_CONNECTED = re.compile(
    r"^\u00d7 (?:Failed to .*connect.* while fetching|Unable to fetch) (\S+)\n((?:.*\n)*?)(?:hint: |\Z)", re.MULTILINE
)
_NOT_FOUND = re.compile(
    r"Could not find a version that satisfies the requirement (.+?)(?: \(from (.+?)\))? \(from versions: (.*?)\)\n"
)
_ONLY_SOURCE = re.compile(r"No sources permitted for \S+: (\S+)")
_NO_COMPILER = re.compile(
    r"command '\S*?([\w+-]+)' failed: No such file|unable to execute '\S*?([\w+-]+)'|"
    r"error: \[Errno 2\] No such file or directory: '\S*?([\w+-]+)'|"
    r"(?:can't find|requires) (?:a )?(Rust)|\b(?:Unknown compiler|No CMAKE_C_COMPILER|compiler) .*not found"
)


class Reason(NamedTuple):
    """Why packages cannot be installed. ``line`` is that of the requirements file, where pip's words tell one.

    ``file`` is the file of the line, where it is not the first one.
    """

    line: int | None
    message: str
    hint: str
    file: Path | None = None


def explain(outcome: Outcome, file: Path, urls: Sequence[Line] = ()) -> Reason:
    """Find the reason in pip's words.

    :param file: the requirements file that it was given.
    :param urls: the lines with URLs, of that file and of those that it includes.
    """
    for recognize in _RECOGNIZERS:
        if found := recognize(outcome):
            message, hint, subject = found
            at = next((each for each in urls if subject and _has_host(each.text, subject)), None)
            if at:
                return Reason(at.number, _short(message), hint, at.file)
            return Reason(_line(outcome.output, subject, file), _short(message), hint)
    words = _last_words(outcome.output)
    return Reason(_line(outcome.output, None, file), _short(words), "fix it; all that pip said is in the log")


# The message, the hint, and the package or the host whose line is named.
_Found = tuple[str, str, "str | None"] | None


def _no_pip(outcome: Outcome) -> _Found:
    if "No module named pip" not in outcome.output:
        return None
    return "there is no pip", f"install it: {sys.executable} -m ensurepip", None


def _disk_full(outcome: Outcome) -> _Found:
    if not re.search(r"\[Errno (28|122)\]|No space left on device|Disk quota exceeded", outcome.output + outcome.log):
        return None
    return "there is no room left on the disk", "give KONG_PYTHON_DATA_DIR more room", None


def _hash_mismatch(outcome: Outcome) -> _Found:
    if "DO NOT MATCH THE HASHES" in outcome.output:
        named = re.search(r"^ +(\S+) from ", outcome.output.partition("DO NOT MATCH")[2], re.MULTILINE)
        package = named[1] if named else None
        message = f"what the index has of {package or 'a package'} has not the hash that the file names"
        return message, "find out which of the two is right before you change the hash", package
    if found := re.search(
        r"In --require-hashes mode, all requirements must have their versions pinned.*\n\s+(\S+)", outcome.output
    ):
        return f"hashes are used, and {found[1]} has none", "pin it with == and give its hash", found[1]
    if "Hashes are required in --require-hashes mode" in outcome.output:
        named = re.search(r"^ +(\S+) --hash=", outcome.output, re.MULTILINE)
        return "hashes are used, and not every package has one", "give it its hash", named[1] if named else None
    return None


def _conflict(outcome: Outcome) -> _Found:
    _, caused, block = outcome.output.partition("The conflict is caused by:")
    if not caused:
        return None
    lines = [line.strip() for line in block.strip().partition("\n\n")[0].splitlines()]
    said = [
        line.replace("The user requested (constraint)", "kong-python itself, or a constraint of yours, needs")
        for line in lines[:4]
    ]
    hint = "ask for versions that fit together"
    return f"versions that do not fit together: {', '.join(dict.fromkeys(said))}", hint, None


def _index_unreachable(outcome: Outcome) -> _Found:
    refused = [found for found in _REFUSED.findall(outcome.log) if not found[1].startswith("404 ")]
    if not refused or "No matching distribution" not in outcome.output:
        return None
    url, reason = refused[-1]
    reason = re.sub(r"^connection error: ", "", reason)
    host = _host(url)
    if _is_untrusted(reason):
        return (*_untrusted(host), host)
    if why := _why_unreachable(reason):
        return f"cannot reach the index {host} ({why})", _NETWORK_HINT, host
    why = re.sub(r" for url: \S+", "", reason)
    return f"the index {host} does not answer as it should ({why})", _NETWORK_HINT, host


def _host_unreachable(outcome: Outcome) -> _Found:
    """A URL of a line, or of a file that is included by URL."""
    if found := _NOT_CONNECTED.search(outcome.output):
        host, reason = _host(found[1]), found[0]
    else:
        reason = "\n".join(re.findall(r"^ERROR: .*", outcome.output, re.MULTILINE))
        if not (found := _POOL.search(reason)):
            return None
        host = found[1]
    if _is_untrusted(reason):
        return (*_untrusted(host), host)
    why = _why_unreachable(reason)
    return f"cannot reach {host}{f' ({why})' if why else ''}", _NETWORK_HINT, host


def _is_untrusted(reason: str) -> bool:
    return "CERTIFICATE_VERIFY_FAILED" in reason or "confirming the ssl certificate" in reason


def _untrusted(host: str) -> tuple[str, str]:
    hint = "name the file of the certificate authority that it has in PIP_CERT"
    return f"the certificate of {host} is not trusted", hint


def _why_unreachable(reason: str) -> str | None:
    found = _UNREACHABLE.search(reason)
    if not found:
        return None
    proxy = "the proxy: " if re.search(r"ProxyError|to proxy|Tunnel connection", reason) else ""
    return proxy + re.sub(r"^\[Errno -?\d+\] ", "", found[1])


def _certificates_missing(outcome: Outcome) -> _Found:
    found = re.search(
        r"(?:TLS CA certificate bundle, invalid path|SSL certificate file.*?): (\S+)", outcome.output + outcome.log
    )
    if not found:
        return None
    return f"there are no certificates in {found[1]}", "let PIP_CERT name the file that they are in", None


def _other_python(outcome: Outcome) -> _Found:
    found = re.search(r"Package '(\S+)' requires a different Python: \S+ not in '(\S+)'", outcome.output)
    if not found:
        return None
    message = f"{found[1]} needs Python {found[2]}, and this is {platform.python_version()}"
    return message, "ask for a version that can use this one", found[1]


def _only_source(outcome: Outcome) -> _Found:
    """A package that the index has as source alone, where wheels alone are wanted: pip says that it has none."""
    found = _NOT_FOUND.search(outcome.output)
    if not found or not (name := re.match(r"[\w.-]+", found[1])):
        return None
    asked, by, wheels = found[1], found[2], found[3].split(", ")
    exact = re.search(r"={2,3}([^,*]+)$", asked)
    sources = [
        version
        for version in _source_versions(outcome.log, name[0])
        if version not in wheels and (exact is None or version == exact[1])
    ]
    if not sources:
        return None
    by = "" if by and by.startswith("-r ") else by
    wanted = f"{asked}, which {by} needs," if by else asked
    here = f"for Python {platform.python_version()} on {platform.machine()}"
    versions = ", ".join(sources[-_MOST_VERSIONS:])
    message = f"the index has no wheel of {wanted} {here}; it has the source of {name[0]} {versions}"
    hint = BUILD_HINT if not outcome.building else "ask for a version that has a wheel, or unset PIP_ONLY_BINARY"
    return message, hint, by or asked


def _source_versions(log: str, name: str) -> list[str]:
    """Give the versions of the source archives that pip has left out."""
    found = []
    # In a folder of archives pip says it of every archive, whatever its name is.
    for url in _ONLY_SOURCE.findall(log):
        file = url.partition("#")[0].partition("?")[0].rpartition("/")[2]
        stem = re.sub(r"\.(?:tar\.\w+|tgz|zip)$", "", file)
        if normalized(stem).startswith(f"{normalized(name)}-"):
            found.append(stem.rpartition("-")[2])
    return list(dict.fromkeys(found))


def _build_refused(outcome: Outcome) -> _Found:
    """A directory, a repository or a source archive that the metadata of a wheel names."""
    before, refused, _ = outcome.output.partition(BUILD_REFUSED)
    if not refused:
        return None
    named = re.findall(r"^(?:Collecting|Processing|Obtaining) (.+?)(?: \(from (.+?)\))?$", before, re.MULTILINE)
    what, by = named[-1] if named else ("a package", "")
    by = "" if by.startswith("-r ") else by.partition("->")[0]
    return f"{what}{f', which {by} needs,' if by else ''} has to be built from source", BUILD_HINT, by or what


def _no_such_version(outcome: Outcome) -> _Found:
    found = _NOT_FOUND.search(outcome.output)
    if not found:
        return None
    asked, by, versions = found[1], found[2], found[3].split(", ")
    wanted = f"{asked}, which {by} needs," if by and not by.startswith("-r ") else asked
    package = (by or asked) if by and not by.startswith("-r ") else asked
    here = f"for Python {platform.python_version()} on {platform.machine()}"
    if versions == ["none"]:
        return f"the index has no {wanted} {here}", "fix the name, or look whether it has one for this Python", package
    return (
        f"the index has no {wanted} {here}; the last ones that it has are {', '.join(versions[-_MOST_VERSIONS:])}",
        "ask for one of those",
        package,
    )


def _invalid_line(outcome: Outcome) -> _Found:
    if found := re.search(r"no such option: (\S+)", outcome.output):
        return f"pip does not know the option {found[1]}", "fix or remove it", found[1]
    if found := re.search(r"Invalid requirement: '([^'\n]*)'", outcome.output):
        if "File '" in outcome.output and "does not exist" in outcome.output:
            return f"there is no file or folder {found[1]}", "fix the path; it begins in the folder of this file", None
        hint = "write == in place of =" if re.search(r"[\w\]]\s*=\s*[\w.]", found[1]) else "fix it"
        return f"{found[1]!r} is no requirement", hint, None
    return None


def _no_git(outcome: Outcome) -> _Found:
    found = re.search(r"Cannot find command '?(\w+)'?", outcome.output)
    if not found:
        return None
    return (
        f"there is no {found[1]} here",
        f"name an archive instead, or install {found[1]} in an image of your own",
        None,
    )


def _clone_failed(outcome: Outcome) -> _Found:
    found = re.search(r"(git|hg|svn|bzr) \S+ .*?(\w+://\S+) .*did not run successfully", outcome.output)
    if not found:
        return None
    return (
        f"{found[1]} cannot fetch {found[2]} ({_build_error(outcome)})",
        "fix the address, or let this host reach it",
        None,
    )


def _build_failed(outcome: Outcome) -> _Found:
    if not re.search(r"metadata-generation-failed|legacy-install-failure|Failed building wheel|Failed to build|"
                     r"subprocess-exited-with-error|BackendUnavailable", outcome.output):  # fmt: skip
        return None
    named = re.search(
        r"Failed (?:building wheel for|to build:?(?: '| )|to build installable wheels.*?\()([\w.-]+)", outcome.output
    )
    named = named or re.search(r"^╰─> ([\w.-]+)$", outcome.output, re.MULTILINE)
    named = named or re.search(
        r"^(?:Collecting|Processing) (?:\S*/)?([\w.]+?)(?:-[\d.]+\.tar|[ =<>~\n])", outcome.output, re.MULTILINE
    )
    package = named[1] if named else None
    if missing := _NO_COMPILER.search(outcome.output + outcome.build):
        program = next((each for each in missing.groups() if each), "a compiler")
        message = f"{package or 'a package'} has no wheel for this Python, and to build it there is no {program} here"
        return message, _BUILD_HINT, package
    return f"{package or 'a package'} cannot be built ({_build_error(outcome)})", _BUILD_HINT, package


def _crashed(outcome: Outcome) -> _Found:
    words = _last_words(outcome.output)
    _, crashed, raised = words.partition(CRASHED)
    if not crashed:
        return None
    hint = "check the options, URLs and files of the requirements; pip install -r shows the traceback by hand"
    return f"{CRASHED}{raised}", hint, None


def _build_error(outcome: Outcome) -> str:
    """Give the last words of the program that failed."""
    lines = [line.strip() for line in outcome.build.splitlines() if line.strip()]
    return lines[-1] if lines[1:] else "its build says nothing"


_RECOGNIZERS: tuple[Callable[[Outcome], _Found], ...] = (
    _no_pip, _disk_full, _hash_mismatch, _conflict, _certificates_missing, _index_unreachable, _other_python,
    _build_refused, _only_source, _no_such_version, _invalid_line, _no_git, _clone_failed, _build_failed,
    _host_unreachable, _crashed,
)  # fmt: skip


def _last_words(output: str) -> str:
    errors = [line.strip() for line in output.splitlines() if re.match(r"\s*(ERROR|error): ", line)]
    others = [line.strip() for line in output.splitlines() if line.strip()]
    last = (errors or others or ["pip said nothing"])[-1]
    return f"pip says: {re.sub(r'^(ERROR|error): ', '', last)}"


def _short(text: str) -> str:
    plain = " ".join(text.split())
    return plain if len(plain) <= _MOST_CHARACTERS else f"{plain[:_MOST_CHARACTERS]}..."


def _host(url: str) -> str:
    """Give the index's name, without a password."""
    return masked(url).partition("://")[2].removeprefix(f"{MASK}@").partition("/")[0]


def _has_host(line: str, host: str) -> bool:
    return re.search(rf"://(?:\S*@)?{re.escape(host)}(?=[:/?#\s'\"]|$)", line) is not None


def _line(output: str, package: str | None, file: Path) -> int | None:
    """Find the line of the requirements file: that of the package, or the one that pip speaks of in its errors."""
    if package:
        return _line_of(package, file)
    errors = "\n".join(line for line in output.splitlines() if re.search(r"ERROR|\^ \(from line|^error", line))
    spoken = re.findall(r"\(line (\d+)\)|from line (\d+) of", errors)
    return int(next(filter(None, spoken[-1]))) if spoken and str(file) in errors else None


def _line_of(package: str, file: Path) -> int | None:
    wanted = _name(package)
    try:
        lines = decode(file.read_bytes()).splitlines()
    except (OSError, EncodingError):
        return None
    return next((number for number, line in enumerate(lines, 1) if _name(line) == wanted), None)


def _name(requirement: str) -> str:
    """Give the name of the package of a line, or the line's first word where it begins with no name."""
    found = re.match(r"\s*([A-Za-z0-9][\w.-]*)", requirement)
    return normalized(found[1]) if found else requirement.strip().partition(" ")[0]


CRASHED = "pip crashed: "
"""Stands in the place of a traceback, before its last line."""

_TRACEBACK = re.compile(r"^(?:ERROR: Exception:\n)?Traceback \(most recent call last\):\n", re.MULTILINE)
# The exception stands below the indented lines of its traceback. Further lines of its message are left out.
_EXCEPTION = re.compile(r"^[ \t][^\n]*\n([A-Za-z_][\w.]*)(?:: ([^\n]*))?$", re.MULTILINE)
_LATER = re.compile(r"^(?:ERROR|WARNING|error): (?!Exception:).*$", re.MULTILINE)
# These errors quote the URL, or the part of it that they cannot parse, without the rest that shows what is secret.
_OF_URLS = re.compile(r"(?:.*\.)?(?:InvalidURL|LocationParseError|InvalidSchema|InvalidProxyURL|MissingSchema)")


def without_traceback(output: str, secrets: Collection[str]) -> str:
    """Replace a traceback by one line that says what was raised.

    :param secrets: quoted text of which one is a part is masked.
    """
    begin = _TRACEBACK.search(output)
    if not begin:
        return output
    last = [*_TRACEBACK.finditer(output)][-1]
    raised = _EXCEPTION.search(output, last.end())
    said = _raised(raised[1], raised[2] or "", secrets) if raised else "it says nothing"
    later = _LATER.findall(output, raised.end()) if raised else []
    return "\n".join([f"{output[: begin.start()]}ERROR: {CRASHED}{said}", *later, ""])


def _raised(kind: str, message: str, secrets: Collection[str]) -> str:
    if _OF_URLS.fullmatch(kind):
        message = "a URL cannot be parsed"
    elif kind == "ValueError":
        message = re.sub(r"(['\"]).*\1", MASK, message)
    else:
        message = re.sub(r"(['\"])([^'\"]+)\1", lambda found: _unless_secret(found[0], found[2], secrets), message)
    name = kind.rpartition(".")[2]
    return f"{name}: {message}" if message else name


def _unless_secret(quoted: str, text: str, secrets: Collection[str]) -> str:
    return MASK if any(text in secret for secret in secrets) else quoted
