"""A shard: up to `shard_size` photos of one split, written as one Parquet file, whole or not at all.

OUT/data/<split>-<number>.parquet, the layout that `datasets.load_dataset(OUT)` knows; OUT/.prepare/ holds beside it
<shard>.jsonl, the photos it is made of, and <shard>.json, what became of them, which is written last.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from idinpaint.data.prepare_faces import Face, FaceReader, encode
from idinpaint.data.prepare_sources import Source
from idinpaint.imaging.encoders import write_atomic
from idinpaint.models.weights import sha256_of
from idinpaint.types import CROP_SIZE, NUM_LANDMARKS, InputError

PLAN_FOLDER, DATA_FOLDER = ".prepare", "data"
BATCH = 32  # photos through the networks at once, and rows a Parquet row group


def features(id_dim: int) -> Any:
    """The columns as `datasets.Features`; their Arrow schema tells `datasets` what the bytes are."""
    from datasets import Array2D, Features, Image, List, Value

    return Features(
        {
            "image": Image(),  # 256 px aligned crop
            "name": Value("string"),
            "identity": Value("string"),  # empty: unknown
            "split": Value("string"),
            "landmarks": Array2D((NUM_LANDMARKS, 2), "float32"),  # (x, y) in crop px
            "landmark_confidence": Value("float32"),
            "id_embed": List(Value("float32"), length=id_dim),
            "skin_mask": Image(),
            "parsing": Image(),  # grey value: place in PARSING_CLASSES
            "skin_source": Value("string"),  # of both: annotated or predicted
            "source_px": Value("float32"),  # side of the crop in the photo
            "outside": Value("float32"),  # share of the crop beyond the photo's edge
            "faces": Value("int32"),  # found in the photo
        }
    )


def write_plan(sources: Iterable[Source], out: Path, shard_size: int) -> list[str]:
    """Deal the photos to shards, split by split, and write each shard's list. Returns the names of the shards."""
    waiting: dict[str, list[Source]] = {}
    numbers: Counter[str] = Counter()
    shards = []

    def flush(split: str) -> None:
        shard = f"{split}-{numbers[split]:05d}"
        lines = "".join(json.dumps(s.as_dict(), ensure_ascii=False) + "\n" for s in waiting.pop(split))
        write_atomic(
            out / PLAN_FOLDER / f"{shard}.jsonl", lambda file: file.write(lines.encode(errors="backslashreplace"))
        )
        numbers[split] += 1
        shards.append(shard)

    for source in sources:
        waiting.setdefault(source.split, []).append(source)
        if len(waiting[source.split]) == shard_size:
            flush(source.split)
    for split in list(waiting):
        flush(split)
    return shards


def planned(out: Path, shard: str) -> list[Source]:
    """The photos of a shard."""
    path = out / PLAN_FOLDER / f"{shard}.jsonl"
    try:
        return [Source(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); prepare into a new folder") from error


def finished(out: Path, shard: str, whole: bool = False) -> dict[str, Any] | None:
    """What became of a shard's photos; None when it is not done, or when its Parquet file is not as it was written:
    rows are counted, and with `whole` its sha256 is compared."""
    import pyarrow.parquet as pq

    path = out / DATA_FOLDER / f"{shard}.parquet"
    try:
        state = json.loads((out / PLAN_FOLDER / f"{shard}.json").read_text(encoding="utf-8"))
        rows = pq.ParquetFile(path).metadata.num_rows if state["rows"] else 0
        changed = whole and "sha256" in state and sha256_of(path) != state["sha256"]  # earlier releases wrote none
    except (OSError, ValueError, KeyError, TypeError):  # ArrowInvalid is a ValueError
        return None
    return None if changed or rows != state["rows"] else state


def write_shard(
    reader: FaceReader, out: Path, shard: str, image_format: str, progress: Callable[[int], None] | None = None
) -> dict[str, Any]:
    """Make one shard, a batch in memory at a time. Returns and stores its rows, what was dropped and why, its sha256.

    progress is called with the number of photos of each batch.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    state: dict[str, Any] = {"rows": 0, "annotated_skin": 0, "dropped": [], "repaired": []}
    batches = _batches(iter(planned(out, shard)))

    def write(file: Any) -> None:
        writer = None
        for batch in batches:
            rows = []
            for result in reader.read(batch):
                if isinstance(result, Face):
                    rows.append(_row(result, image_format))
                    state["annotated_skin"] += result.skin_source == "annotated"
                    state["repaired"] += [[result.source.path, note.kind, note.detail] for note in result.notes]
                else:
                    source, drop = result
                    state["dropped"].append([source.path, drop.kind, drop.detail])
            if rows:
                schema = features(len(rows[0]["id_embed"])).arrow_schema
                if writer is None:  # the pixels are compressed already
                    writer = pq.ParquetWriter(file, schema, compression="none", use_dictionary=["identity", "split"])
                writer.write_table(_table(pa, schema, rows))
                state["rows"] += len(rows)
            if progress:
                progress(len(batch))
        if writer is not None:
            writer.close()

    target = out / DATA_FOLDER / f"{shard}.parquet"
    write_atomic(target, write)
    if state["rows"]:
        state["sha256"] = sha256_of(target)
    else:
        target.unlink()  # `datasets` reads no empty file
    text = json.dumps(state, ensure_ascii=False)
    write_atomic(out / PLAN_FOLDER / f"{shard}.json", lambda file: file.write(text.encode(errors="backslashreplace")))
    return state


def _batches(sources: Iterator[Source]) -> Iterator[list[Source]]:
    while batch := list(islice(sources, BATCH)):
        yield batch


def _row(face: Face, image_format: str) -> dict[str, Any]:
    """A face as one row; `path` names the bytes' format."""
    ending = {"jpeg": ".jpg"}.get(image_format, f".{image_format}")
    stem = _text(face.source.name).rpartition(".")[0]
    return {
        "image": {"bytes": encode(face.crop, image_format), "path": stem + ending},
        "name": _text(face.source.name),
        "identity": _text(face.source.identity),
        "split": face.source.split,
        "landmarks": face.landmarks.astype("float32").tolist(),
        "landmark_confidence": face.confidence,
        "id_embed": face.id_embed.tolist(),
        "skin_mask": {"bytes": encode(face.skin, "png"), "path": f"{stem}_skin.png"},
        "parsing": {"bytes": encode(face.labels, "png"), "path": f"{stem}_parsing.png"},
        "skin_source": face.skin_source,
        "source_px": face.source_px,
        "outside": float(face.outside.sum()) / CROP_SIZE**2,
        "faces": face.faces,
    }


def _table(pa: Any, schema: Any, rows: list[dict[str, Any]]) -> Any:
    """Rows as an Arrow table; extension columns are filled through what they are stored as."""
    arrays = []
    for column in schema:
        values = [row[column.name] for row in rows]
        if isinstance(column.type, pa.ExtensionType):
            arrays.append(pa.ExtensionArray.from_storage(column.type, pa.array(values, column.type.storage_type)))
        else:
            arrays.append(pa.array(values, column.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _text(name: str) -> str:
    """A file name as UTF-8 can hold it; bytes that are none become escapes such as \\udcff."""
    return name.encode(errors="backslashreplace").decode()
