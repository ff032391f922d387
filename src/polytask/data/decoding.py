"""Bytes of a file as text: compression, encodings, and errors that name the line."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib

from polytask.data.table import PathLike
from polytask.errors import DataError


def unzipped(path: PathLike, content: bytes) -> bytes:
    """The bytes of a gzip file.

    Raises:
        DataError: it is damaged.
    """
    try:
        return gzip.decompress(content)
    except EOFError:
        problem, fix = "the gzip file ends too early", "Copy or download it again"
    except gzip.BadGzipFile as error:
        is_gzip = content.startswith(b"\x1f\x8b")
        problem = (
            f"the gzip file is damaged ({error})" if is_gzip else "the name ends in .gz, but it is not a gzip file"
        )
        fix = "Copy or download it again" if is_gzip else "If it is not compressed, take .gz off its name"
    except (zlib.error, OSError) as error:
        problem, fix = f"the gzip file is damaged ({error})", "Copy or download it again"
    raise DataError(problem, file=path, fix=fix)


def check_encoding(encoding: str, path: PathLike) -> None:
    """Refuse a name that is no text encoding, or a format that has none."""
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        fix = "Usual are utf-8, cp1252, latin1, utf-16, gb18030 and shift_jis"
        raise DataError(f"no encoding is called {encoding!r}", file=path, fix=fix) from None


def _recoded(path: PathLike, content: bytes, encoding: str) -> bytes:
    """The content in UTF-8."""
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        fix = "Name the one that it has with --encoding, or leave that out for UTF-8"
        at = content[: getattr(error, "start", 0)]
        raise DataError(
            f"the file is not {encoding} ({reason})", file=path, line=1 + at.count(b"\n") if at else None, fix=fix
        ) from None


def decoded(file: str, content: bytes) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        DataError: it is not UTF-8; the message names the line and the likely encoding.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("the file is UTF-16, not UTF-8", file=file, fix=_recoding(file, "utf-16"))
    text = content.removeprefix(codecs.BOM_UTF8)
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise DataError(
            f"byte {text[at]:#04x} is not UTF-8, near {text[max(0, at - 20) : at + 10].decode('cp1252', 'replace')!r}",
            file=file,
            line=_line_at(text[:at].decode("utf-8"), at),
            fix=f"The file is probably {_likely_encoding(text)}. {_recoding(file, _likely_encoding(text))}",
        ) from None
    if "\0" in decoded:
        line = _line_at(decoded, decoded.index("\0"))
        raise DataError("the line holds a NUL character (byte 0)", file=file, line=line, fix="Take it out")
    return decoded


def _line_at(text: str, index: int) -> int:
    return 1 + len(re.findall(r"\r\n|\r|\n", text[:index]))


def _likely_encoding(content: bytes) -> str:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin1"
    return "cp1252"


def _recoding(file: str, encoding: str) -> str:
    return f"Say so with --encoding {encoding}"
