"""Decompresses and decodes file contents, with errors that give the line."""

from __future__ import annotations

import codecs
import gzip
import re
import zlib

from polytask.data.table import PathLike
from polytask.errors import DataError


def gunzip(path: PathLike, content: bytes) -> bytes:
    """Decompress the content of a gzip file.

    Raises:
        DataError: the file is damaged or not a gzip file.
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
        fix = "Copy or download it again" if is_gzip else "If it is not compressed, remove .gz from its name"
    except (zlib.error, OSError) as error:
        problem, fix = f"the gzip file is damaged ({error})", "Copy or download it again"
    raise DataError(problem, file=path, fix=fix)


def check_encoding(encoding: str, path: PathLike) -> None:
    """Check the name of a text encoding.

    Raises:
        DataError: Python has no text encoding of this name.
    """
    try:
        "".encode(encoding)
    except (LookupError, ValueError):
        fix = "Common encodings are utf-8, cp1252, latin1, utf-16, gb18030 and shift_jis"
        raise DataError(f"no encoding is called {encoding!r}", file=path, fix=fix) from None


def to_utf8(path: PathLike, content: bytes, encoding: str) -> bytes:
    """Convert content from another encoding to UTF-8.

    Raises:
        DataError: the content is not in this encoding.
    """
    try:
        return content.decode(encoding).encode("utf-8")
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        fix = "Pass its encoding with --encoding, or omit --encoding for UTF-8"
        at = content[: getattr(error, "start", 0)]
        raise DataError(
            f"the file is not {encoding} ({reason})", file=path, line=1 + at.count(b"\n") if at else None, fix=fix
        ) from None


def decode_utf8(file: str, content: bytes) -> str:
    """Decode the content of a UTF-8 file without its byte order mark.

    Raises:
        DataError: it is not UTF-8, with the line and the likely encoding, or contains a NUL character.
    """
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError("the file is UTF-16, not UTF-8", file=file, fix=_encoding_hint(file, "utf-16"))
    text = content.removeprefix(codecs.BOM_UTF8)
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise DataError(
            f"byte {text[at]:#04x} is not UTF-8, near {text[max(0, at - 20) : at + 10].decode('cp1252', 'replace')!r}",
            file=file,
            line=_line_number(text[:at].decode("utf-8"), at),
            fix=f"The file is probably {_likely_encoding(text)}. {_encoding_hint(file, _likely_encoding(text))}",
        ) from None
    if "\0" in decoded:
        line = _line_number(decoded, decoded.index("\0"))
        raise DataError("the line contains a NUL character (byte 0)", file=file, line=line, fix="Remove it")
    return decoded


def _line_number(text: str, index: int) -> int:
    return 1 + len(re.findall(r"\r\n|\r|\n", text[:index]))


def _likely_encoding(content: bytes) -> str:
    try:
        content.decode("cp1252")
    except UnicodeDecodeError:
        return "latin1"
    return "cp1252"


def _encoding_hint(file: str, encoding: str) -> str:
    return f"Pass --encoding {encoding}"
