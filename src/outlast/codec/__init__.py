"""Values as JSON, and back: what comes back after a crash is what was there before it.

Stored data is never executed: types come from the code's own annotations, there is no pickle, and
nothing is imported by a name that was stored. A type that cannot make the round trip is refused
when it is declared (`UsageError`), a value when it is written (`CodecError`, with its path).

    plain       plain JSON, its limits and its text
    signatures  the types that a function's annotations name
    unfit       the types that are refused
    schema      what is changed in a type's schema
    typed       codecs of annotated types
    sameness    whether what came back is what was there
    paths       the ways into a value
    recorded    errors that a replay brings back
    digest      a short name for a call's arguments
"""

from outlast.codec.digest import digest
from outlast.codec.plain import LEVELS, Json, from_text, is_same, to_text
from outlast.codec.recorded import ErrorRecord
from outlast.codec.signatures import (
    hints,
    parameter_annotation,
    result_annotation,
    type_argument,
)
from outlast.codec.typed import Codec, codec_for, result_codec

__all__ = [
    "LEVELS",
    "Codec",
    "ErrorRecord",
    "Json",
    "codec_for",
    "digest",
    "from_text",
    "hints",
    "is_same",
    "parameter_annotation",
    "result_annotation",
    "result_codec",
    "to_text",
    "type_argument",
]
