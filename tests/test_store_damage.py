"""Damage to a store is found and never read as data, and a file's claims never fill the memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from store_samples import SIZE, change_group, distributions, prediction_header, snapshot, write_predictions

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.store import files
from vsscli.store.arrays import encode_chunk, encode_shard, shard_name
from vsscli.store.encode import arrays_for
from vsscli.store.reader import Store, open_store
from vsscli.store.verify import repair, verify

Change = Callable[[dict[str, Any]], object]
MEANS = {"alley": distributions(2, 66), "street": distributions(1, 66)}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_predictions(tmp_path_factory.mktemp("template") / "a.zarr", prediction_header(), MEANS).path


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Store:
    return open_store(shutil.copytree(template, tmp_path / "a.zarr"))


def change_json(path: Path, change: Change) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


@contextmanager
def refused_before_allocation(match: str) -> Iterator[None]:
    tracemalloc.start()
    try:
        with pytest.raises(VssError, match=match):
            yield
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["label", "entropy", "top_class", "top_probability"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "delete"])
def test_damage_is_found_and_never_read_as_data(store: Store, name: str, harm: str) -> None:
    shard = next(file for file in (store.path / "street" / name / "c" / "1").rglob("0") if file.is_file())
    whole = shard.read_bytes()
    if harm == "delete":
        shard.unlink()
    else:
        # Byte 20 is in the first frame's chunk, behind Blosc's own header.
        flipped = whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]
        shard.write_bytes({"flip": flipped, "truncate": whole[:-7], "empty": b""}[harm])
    damaged = verify(store)
    assert [(damage.video, damage.segment) for damage in damaged] == [("street", 1)]
    assert str(shard) in damaged[0].what
    with pytest.raises(VssError, match=r"damaged|missing"):
        open_store(store.path).read("street", name, 64)
    open_store(store.path).read("street", name, 63)


def terabytes(place: str) -> Change:
    def change(values: Any) -> None:
        *keys, last = place.split(".")
        for key in keys:
            values = values[int(key) if key.isdigit() else key]
        values[last] = [64, 2**21, 2**21]

    return change


HOSTILE: dict[str, Change] = {
    "shape": terabytes("shape"),
    "shards": terabytes("chunk_grid.configuration.chunk_shape"),
    "chunks": terabytes("codecs.0.configuration.chunk_shape"),
    "type": lambda values: values.update(data_type="r99999999"),
    "codec": lambda values: values["codecs"][0]["configuration"]["codecs"].__setitem__(1, {"name": "gzip"}),
    "checksum": lambda values: values["codecs"][0]["configuration"]["codecs"].pop(2),
    "grid": lambda values: values["chunk_grid"].update(name="../../regular"),
    "transformer": lambda values: values.update(storage_transformers=[{"name": "x"}]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_an_array_that_claims_terabytes_or_other_codecs_is_refused(store: Store, name: str) -> None:
    path = store.path / "street" / "label" / "zarr.json"
    change_json(path, HOSTILE[name])
    with refused_before_allocation("header and record say"):
        store.label("street", 0)
    assert [(damage.video, damage.segment) for damage in verify(store)] == [("street", None)]
    path.write_text("[]")
    with pytest.raises(VssError, match="street/label"):
        open_store(store.path).label("street", 0)


def forged(chunk: bytes, place: int) -> bytes:
    """A chunk whose Blosc header claims 2 GB, with a checksum that fits."""
    packed = bytearray(chunk[:-4])
    packed[place : place + 4] = (2**31 - 32).to_bytes(4, "little")
    return bytes(packed) + google_crc32c.value(bytes(packed)).to_bytes(4, "little")


@pytest.mark.parametrize("harm", ["decoded size", "encoded size", "index beyond", "long chunk", "short file"])
def test_a_shard_that_claims_gigabytes_is_refused(store: Store, harm: str) -> None:
    spec = arrays_for(store.encoding, 5, SIZE)["label"]
    chunk = encode_chunk(spec, np.zeros(SIZE, np.uint8))
    if harm in ("decoded size", "encoded size"):
        chunk = forged(chunk, 4 if harm == "decoded size" else 12)
    whole = encode_shard([chunk] * 64, 64)
    if harm in ("index beyond", "long chunk"):
        index = np.frombuffer(whole[-1028:-4], "<u8").copy()
        index[1::2] = 2**62 if harm == "index beyond" else 40 * len(chunk)
        table = index.tobytes()
        whole = whole[:-1028] + table + google_crc32c.value(table).to_bytes(4, "little")
    elif harm == "short file":
        whole = whole[-1000:]
    (store.path / "street" / "label" / shard_name(0, spec)).write_bytes(whole)
    with refused_before_allocation("damaged"):
        store.label("street", 0)


@pytest.mark.parametrize("place", ["zarr.json", "street/zarr.json", "street/label/zarr.json"])
def test_json_of_a_hundred_megabytes_is_refused_unread(store: Store, place: str) -> None:
    with (store.path / place).open("r+b") as file:
        file.truncate(100 * 2**20)  # a hole, and no work for the disk
    with refused_before_allocation("104857600 bytes"):
        open_store(store.path).label("street", 0)


def test_metadata_of_a_size_that_can_not_be_ours_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 1000)
    with pytest.raises(VssError, match="bytes"):
        open_store(store.path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", [2**20, 2**20]),
        ("size", [0, 4]),
        ("size", [5.0, 6.0]),
        ("size", 7),
        ("stems", []),
        ("stems", ["a", "a"]),
        ("stems", [1]),
        ("segment", 10**9),
        ("segment", 0),
        ("segments", {"9": {}}),
        ("segments", {"x": {}}),
        ("segments", {"0": {"label": "../../etc"}}),
        ("segments", []),
        ("sources", ["x"]),
        ("video", 3),
    ],
)
def test_a_record_that_claims_nonsense_is_refused(store: Store, field: str, value: Any) -> None:
    change_group(store.path / "street" / "zarr.json", lambda values: values.update({field: value}))
    with pytest.raises(VssError, match=r"street/zarr\.json"):
        open_store(store.path).label("street", 0)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"attributes": 3}', "[" * 100_000, '{"attributes": {"vss": 1}}']
)
def test_junk_instead_of_metadata_is_refused(store: Store, text: str) -> None:
    (store.path / "street" / "zarr.json").write_text(text)
    with pytest.raises(VssError, match="street"):
        open_store(store.path).label("street", 0)
    (store.path / "zarr.json").write_text(text)
    with pytest.raises(VssError, match=r"a\.zarr"):
        open_store(store.path)


def test_another_format_or_encoding_says_what_to_do(store: Store) -> None:
    path = store.path / "zarr.json"
    for other, hint in ((5, "install a newer vss"), (1, "run the command that made it")):
        change_group(path, lambda values, other=other: values.update(format=other))
        with pytest.raises(VssError, match=f"has format {other}; this version reads formats 2 to 4") as raised:
            open_store(store.path)
        assert hint in raised.value.hint
    change_group(path, lambda values: values.update(format=4))
    change_group(path, lambda values: values["encoding"].update(levels=65536))
    with pytest.raises(VssError, match=r"levels 65536"):
        open_store(store.path)
    # Format 2 knew no predictor. In one of format 3 that says none, values may be differences or not.
    change_group(path, lambda values: (values["encoding"].update(levels=256), values.update(format=3)))
    with pytest.raises(VssError, match="lacks 'predictor'"):
        open_store(store.path)


CHANGES: dict[str, tuple[str, Change]] = {
    "class": ("", lambda header: header["table"]["classes"][1].update(name="lava")),
    "section": ("", lambda header: header["data"].update(section={"name": "another"})),
    "stems": ("street", lambda record: record["stems"].reverse()),
    "video": ("street", lambda record: record.update(video="alley")),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_since_it_was_written_is_refused_and_noticed(
    store: Store, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    place, change = CHANGES[name]
    change_json(store.path / place / "zarr.json", lambda values: change(values["attributes"]["vss"]))
    with pytest.raises(VssError, match="sha256"):
        open_store(store.path).label("street", 0)
    workspace = store.path.parent / "runs"
    (workspace / "stores/sample/val").mkdir(parents=True)
    shutil.move(store.path, workspace / "stores/sample/val/a.zarr")
    assert run(["cache", "verify", "--workspace", str(workspace)]) == 2
    assert "sha256" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\\\ud800"'])
@pytest.mark.parametrize("file", ["zarr.json", "street/zarr.json"])
def test_what_no_seal_can_be_of_is_a_broken_one(store: Store, file: str, value: str) -> None:
    path = store.path / file
    text = path.read_text().replace('"vss": {', f'"vss": {{"odd": {value},', 1)
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(VssError):
        open_store(store.path).label("street", 0)


def test_a_video_of_another_store_is_refused_and_noticed(store: Store, tmp_path: Path) -> None:
    header = prediction_header(weights="of another network")
    other = write_predictions(tmp_path / "b.zarr", header, {"alley": MEANS["alley"]})
    shutil.rmtree(store.path / "alley")
    shutil.copytree(other.path / "alley", store.path / "alley")
    mixed = open_store(store.path)
    with pytest.raises(VssError, match=r"alley.*another store.*moved") as caught:
        mixed.label("alley", 0)
    assert "move it back" in caught.value.hint
    found = verify(mixed)
    assert [(damage.video, damage.segment) for damage in found] == [("alley", None)]
    assert repair(mixed, found).videos == ("alley",)
    assert open_store(store.path).videos() == ("street",)


def test_a_record_that_names_no_store_is_read_as_before(store: Store) -> None:
    expected = store.label("street", 3)
    change_group(store.path / "street/zarr.json", lambda values: values.pop("store"))
    again = open_store(store.path)
    assert verify(again) == []
    np.testing.assert_array_equal(again.label("street", 3), expected)
    assert again.digest("street") == store.digest("street")


def swap(store: Store) -> None:
    """Give two videos of one size and length each other's names."""
    street, alley, aside = store.path / "street", store.path / "alley", store.path.with_name("aside")
    street.rename(aside)
    alley.rename(street)
    aside.rename(alley)


def test_videos_whose_folders_were_swapped_are_refused_and_noticed(store: Store) -> None:
    right = store.label("street", 0)
    swap(store)
    for video, other in (("alley", "street"), ("street", "alley")):
        with pytest.raises(VssError, match=f"{video}/zarr.json.* video {other}"):
            open_store(store.path).label(video, 0)
    damaged = verify(open_store(store.path))
    assert [(damage.video, damage.segment) for damage in damaged] == [("alley", None), ("street", None)]
    swap(store)
    assert verify(open_store(store.path)) == []
    assert (open_store(store.path).label("street", 0) == right).all()
    (store.path / "street").rename(store.path / "lane")
    damaged = verify(open_store(store.path))
    assert [damage.video for damage in damaged] == ["lane"]
    repair(store, damaged)
    assert open_store(store.path).videos() == ("alley",)


def test_a_record_of_an_earlier_version_names_no_video_and_is_read(store: Store) -> None:
    path, digest = store.path / "street" / "zarr.json", store.digest("street")
    change_group(path, lambda values: values.pop("video"))
    earlier = open_store(store.path)
    assert earlier.record("street").video == ""
    assert earlier.digest("street") == digest, "what was made of these predictions is still of these"
    assert verify(earlier) == []


def test_a_video_that_an_earlier_version_began_ends_with_the_same_bytes(store: Store, template: Path) -> None:
    def begun(record: dict[str, Any]) -> None:
        del record["video"], record["segments"]["1"]

    change_group(store.path / "street" / "zarr.json", begun)
    write_predictions(store.path, prediction_header(), MEANS)
    assert snapshot(store.path) == snapshot(template)


def test_a_name_composed_otherwise_is_the_same_name(tmp_path: Path) -> None:
    store = write_predictions(tmp_path / "a.zarr", prediction_header(), {"caf\u00e9": distributions(1, 2)})
    (store.path / "caf\u00e9").rename(store.path / "cafe\u0301")  # as some file systems write it
    assert verify(open_store(store.path)) == []
