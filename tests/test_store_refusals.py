"""What a store refuses: others' headers, frames that are not there, damage, and claims that would fill the memory."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from store_samples import SIZE, change_group, distributions, prediction_header, snapshot, stems, write_predictions

from vsscli.cli.app import run
from vsscli.errors import VssError
from vsscli.store import files
from vsscli.store.arrays import encode_chunk, encode_shard, shard_name
from vsscli.store.encode import arrays_for
from vsscli.store.header import Encoding, Header, read_header
from vsscli.store.reader import Store, open_source, open_store
from vsscli.store.verify import verify
from vsscli.store.writer import Segment, StoreWriter

FRAMES = 66


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "a.zarr"
    return write_predictions(path, prediction_header(), {"street": distributions(1, FRAMES)}).path


@pytest.fixture
def store(tmp_path: Path, template: Path) -> Store:
    return open_store(shutil.copytree(template, tmp_path / "a.zarr"))


def half_written(path: Path) -> Store:
    """Only the second of two segments."""
    with StoreWriter(path, prediction_header()) as writer:
        _, last = writer.pending("street", stems(FRAMES), SIZE)
        zeros = {name: np.zeros((2, *SIZE), np.uint8) for name in ("label", "entropy")}
        lists = {name: np.zeros((2, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        writer.write("street", last, {**zeros, **lists})
    return open_store(path)


def change_json(path: Path, change: Callable[[Any], Any]) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps(change(values) or values))


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (prediction_header(weights="4567"), "source.weights = '0123', not '4567'"),
        (prediction_header(scales=[0.75, 1.25]), "source.scales.1 = 1.0, not 1.25"),
        (prediction_header(scales=[1.0]), "source.scales = [0.75, 1.0], not [1.0]"),
        (prediction_header(crop=7), "source.crop = nothing, not 7"),
        (prediction_header(encoding=Encoding(kept=4)), "encoding.kept = 3, not 4"),
        (prediction_header(num_classes=6), "table.classes = ['class 0'"),
    ],
)
def test_another_header_is_refused_with_the_field_and_both_values(store: Store, header: Header, message: str) -> None:
    with pytest.raises(VssError) as raised:
        StoreWriter(store.path, header)
    assert message in raised.value.message
    assert str(store.path) in raised.value.message
    assert "--force" in raised.value.hint


def test_force_writes_a_new_store_beside_and_goes_on_with_it(store: Store) -> None:
    header = prediction_header(weights="4567")
    before = snapshot(store.path)
    with StoreWriter(store.path, header, force=True) as writer:
        assert writer.path.name == f"a-{header.fingerprint[:8]}.zarr"
        writer.pending("street", stems(2), SIZE)
    assert read_header(writer.path) == header
    assert snapshot(store.path) == before
    assert StoreWriter(store.path, header, force=True).path == writer.path
    assert StoreWriter(store.path, prediction_header(), force=True).path == store.path


def test_other_frames_of_a_video_are_refused(store: Store) -> None:
    with StoreWriter(store.path, prediction_header()) as writer:
        with pytest.raises(VssError, match="66 frames, not 67"):
            writer.pending("street", stems(FRAMES + 1), SIZE)
        with pytest.raises(VssError, match=r"first unlike: '00001', not 'other'"):
            writer.pending("street", ["00000", "other", *stems(FRAMES)[2:]], SIZE)
        with pytest.raises(VssError, match="5x6, not 6x6"):
            writer.pending("street", stems(FRAMES), (6, 6))
        with pytest.raises(VssError, match="made from other predictions"):
            writer.pending("street", stems(FRAMES), SIZE, ["0" * 64])
        assert writer.pending("street", stems(FRAMES), SIZE) == []


def test_force_makes_a_video_of_other_frames_anew_and_no_other(store: Store, tmp_path: Path) -> None:
    other = {"lane": distributions(2, 3)}
    write_predictions(store.path, prediction_header(), other)
    lane, alone = snapshot(store.path / "lane"), write_predictions(tmp_path / "b.zarr", prediction_header(), other).path
    with StoreWriter(store.path, prediction_header(), force=True) as writer:
        segments = writer.pending("street", stems(2), SIZE, ["0" * 64])
        assert segments == [Segment(0, 2)]
        assert writer.pending("lane", stems(3), SIZE) == []
    assert snapshot(store.path / "lane") == lane == snapshot(alone / "lane")
    assert open_store(store.path).record("street").sources == ("0" * 64,)
    assert not open_store(store.path).record("street").segments
    assert not (store.path / "street/label/c").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.zarr", "b.zarr"]


@pytest.mark.parametrize("video", ["", ".", "..", "a/b", "../a", "zarr.json", "__root__", "a\\b", "a\0"])
def test_a_name_that_climbs_out_or_is_reserved_is_refused(tmp_path: Path, video: str) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer, pytest.raises(VssError):
        writer.pending(video, stems(2), SIZE)


def test_a_path_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    for path in (tmp_path / "notes", tmp_path / "notes" / "a.txt"):
        with pytest.raises(VssError, match="is no store"):
            StoreWriter(path, prediction_header())


def test_a_missing_store_and_a_folder_that_is_none_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(VssError, match="does not exist"):
        open_store(tmp_path / "b.zarr")
    with pytest.raises(VssError, match="is not a store"):
        open_store(tmp_path)


def test_wrong_arrays_never_reach_the_disk(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "a.zarr", prediction_header()) as writer:
        (segment,) = writer.pending("v", stems(2), SIZE)
        for arrays in ({}, {"label": np.zeros((2, *SIZE), np.uint8)}):
            with pytest.raises(ValueError, match="arrays"):
                writer.write("v", segment, arrays)
        good = {name: np.zeros((2, *SIZE), np.uint8) for name in ("label", "entropy")}
        good |= {name: np.zeros((2, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        with pytest.raises(ValueError, match="label of video v"):
            writer.write("v", segment, {**good, "label": np.zeros((1, *SIZE), np.uint8)})
        with pytest.raises(ValueError, match="top_class of video v"):
            writer.write("v", segment, {**good, "top_class": good["top_class"].astype(np.int64)})
        with pytest.raises(ValueError, match="no pending segment"):
            writer.write("v", Segment(0, 1), good)
        with pytest.raises(ValueError, match="was not claimed"):
            writer.write("w", segment, good)


def test_a_frame_that_is_not_recorded_is_refused_even_when_its_file_is_there(tmp_path: Path) -> None:
    store = half_written(tmp_path / "a.zarr")
    assert (store.label("street", 64) == 0).all()
    for index in (0, 63, slice(60, 66), slice(None)):
        with pytest.raises(VssError, match=r"frames 0 to 63 of video street are not there yet"):
            store.read("street", "label", index)
    shard = store.path / "street" / "label" / "c" / "0" / "0" / "0"
    shard.parent.mkdir(parents=True)
    shard.write_bytes((store.path / "street" / "label" / "c" / "1" / "0" / "0").read_bytes())
    with pytest.raises(VssError, match="not there yet"):
        open_store(store.path).label("street", 0)
    assert store.videos() == ()
    assert store.videos(complete=False) == ("street",)
    assert verify(store) == []


def test_a_reader_sees_what_is_recorded_later(tmp_path: Path) -> None:
    store = half_written(tmp_path / "a.zarr")
    assert not store.record("street").is_complete
    with StoreWriter(store.path, prediction_header()) as writer:
        (segment,) = writer.pending("street", stems(FRAMES), SIZE)
        assert segment == Segment(0, 64)
        arrays = {name: np.ones((64, *SIZE), np.uint8) for name in ("label", "entropy")}
        arrays |= {name: np.ones((64, 3, *SIZE), np.uint8) for name in ("top_class", "top_probability")}
        writer.write("street", segment, arrays)
    assert (store.label("street", 0) == 1).all()
    assert store.record("street").is_complete


def test_what_a_store_does_not_keep_is_named(store: Store) -> None:
    with pytest.raises(VssError, match="keeps no logits, only label, entropy, top_class, top_probability"):
        store.read("street", "logits", 0)
    with pytest.raises(VssError, match="has no video alley"):
        store.label("alley", 0)
    with pytest.raises(VssError, match="is no pseudo-label store"):
        open_source(store)


@pytest.mark.parametrize("name", ["label", "entropy", "top_class", "top_probability"])
@pytest.mark.parametrize("harm", ["flip", "truncate", "empty", "delete"])
def test_damage_is_found_and_never_read_as_data(store: Store, name: str, harm: str) -> None:
    shard = next((store.path / "street" / name / "c" / "1").rglob("0"))
    while shard.is_dir():
        shard = shard / "0"
    whole = shard.read_bytes()
    if harm == "delete":
        shard.unlink()
    else:
        # Byte 20 lies in the first frame's chunk, behind Blosc's own header.
        flipped = whole[:20] + bytes([whole[20] ^ 1]) + whole[21:]
        shard.write_bytes({"flip": flipped, "truncate": whole[:-7], "empty": b""}[harm])
    damaged = verify(store)
    assert [(damage.video, damage.segment) for damage in damaged] == [("street", 1)]
    assert str(shard) in damaged[0].what
    with pytest.raises(VssError, match=r"damaged|missing"):
        open_store(store.path).read("street", name, 64)
    open_store(store.path).read("street", name, 63)


def test_an_array_of_another_shape_is_refused_before_anything_is_allocated(store: Store) -> None:
    def enlarge(values: dict[str, Any]) -> None:
        values["shape"] = [FRAMES, 10**6, 10**6]
        values["chunk_grid"]["configuration"]["chunk_shape"] = [64, 10**6, 10**6]
        values["codecs"][0]["configuration"]["chunk_shape"] = [1, 10**6, 10**6]

    change_json(store.path / "street" / "label" / "zarr.json", enlarge)
    with pytest.raises(VssError, match="header and record say"):
        store.label("street", 0)
    assert [(damage.video, damage.segment) for damage in verify(store)] == [("street", None)]
    (store.path / "street" / "label" / "zarr.json").write_text("[]")
    with pytest.raises(VssError, match="no readable array"):
        open_store(store.path).label("street", 0)


def hostile_array(name: str) -> Callable[[Any], None]:
    """A change of an array's zarr.json that makes it claim terabytes, or decode by other means."""
    terabytes = [64, 2**21, 2**21]

    def change(values: Any) -> None:
        sharding = values["codecs"][0]["configuration"]
        if name == "shape":
            values["shape"] = terabytes
        elif name == "shards":
            values["chunk_grid"]["configuration"]["chunk_shape"] = terabytes
        elif name == "chunks":
            sharding["chunk_shape"] = terabytes
        elif name == "type":
            values["data_type"] = "r99999999"
        elif name == "codec":
            sharding["codecs"][1] = {"name": "gzip", "configuration": {"level": 1}}
        elif name == "checksum":
            del sharding["codecs"][2]
        elif name == "grid":
            values["chunk_grid"]["name"] = "../../regular"
        elif name == "transformer":
            values["storage_transformers"] = [{"name": "x"}]

    return change


@pytest.mark.parametrize("name", ["shape", "shards", "chunks", "type", "codec", "checksum", "grid", "transformer"])
def test_an_array_that_claims_terabytes_or_other_codecs_is_refused_before_allocation(store: Store, name: str) -> None:
    change_json(store.path / "street" / "label" / "zarr.json", hostile_array(name))
    tracemalloc.start()
    with pytest.raises(VssError, match="header and record say"):
        store.label("street", 0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def forged(chunk: bytes, place: int, number: int) -> bytes:
    """A chunk whose Blosc header says something else, with a checksum that fits."""
    packed = bytearray(chunk[:-4])
    packed[place : place + 4] = number.to_bytes(4, "little")
    return bytes(packed) + google_crc32c.value(bytes(packed)).to_bytes(4, "little")


@pytest.mark.parametrize("harm", ["claims 2 GB", "claims other length", "index beyond", "long chunk", "short file"])
def test_a_shard_that_claims_gigabytes_is_refused_before_allocation(store: Store, harm: str) -> None:
    spec = arrays_for(store.encoding, 5, SIZE)["label"]
    chunk = encode_chunk(spec, np.zeros(SIZE, np.uint8))
    if harm == "claims 2 GB":
        chunk = forged(chunk, 4, 2**31 - 32)
    elif harm == "claims other length":
        chunk = forged(chunk, 12, 2**31 - 32)
    whole = encode_shard([chunk] * 64, 64)
    if harm in ("index beyond", "long chunk"):
        index = np.frombuffer(whole[-1028:-4], "<u8").copy()
        index[1::2] = 2**62 if harm == "index beyond" else 40 * len(chunk)
        table = index.tobytes()
        whole = whole[:-1028] + table + google_crc32c.value(table).to_bytes(4, "little")
    elif harm == "short file":
        whole = whole[-1000:]
    (store.path / "street" / "label" / shard_name(0, spec)).write_bytes(whole)
    tracemalloc.start()
    with pytest.raises(VssError, match="damaged"):
        store.label("street", 0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("place", ["zarr.json", "street/zarr.json", "street/label/zarr.json"])
def test_json_of_a_hundred_megabytes_is_refused_unread(store: Store, place: str) -> None:
    with (store.path / place).open("r+b") as file:
        file.truncate(100 * 2**20)  # a hole, and no work for the disk
    tracemalloc.start()
    with pytest.raises(VssError, match="104857600 bytes"):
        open_store(store.path).label("street", 0)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_names_do_not_climb_out_of_a_store(store: Store, tmp_path: Path) -> None:
    shutil.copytree(store.path / "street", tmp_path / "outside")
    for name in ("../outside", "../a.zarr/street", str(tmp_path / "outside"), "street/label", ""):
        with pytest.raises(VssError, match="has no video"):
            store.label(name, 0)
    change_group(store.path / "street" / "zarr.json", lambda values: values["stems"].__setitem__(3, "../../../../x"))
    with pytest.raises(VssError, match="stems"):
        open_store(store.path).label("street", 0)
    with StoreWriter(tmp_path / "b.zarr", prediction_header()) as writer, pytest.raises(VssError, match="called"):
        writer.pending("v", ["a", "../b"], SIZE)


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
    ],
)
def test_a_record_that_claims_nonsense_is_refused(store: Store, field: str, value: Any) -> None:
    path = store.path / "street" / "zarr.json"
    change_group(path, lambda values: values.update({field: value}))
    with pytest.raises(VssError, match=r"record|names a|called"):
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


def test_metadata_of_a_size_that_can_not_be_ours_is_not_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_JSON_BYTES", 1000)
    with pytest.raises(VssError, match="bytes"):
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


Change = Callable[[dict[str, Any]], object]
RENAMED: Change = lambda header: header["table"]["classes"][1].update(name="lava")  # noqa: E731
ELSEWHERE: Change = lambda header: header["data"].update(section={"name": "another"})  # noqa: E731
SWAPPED: Change = lambda record: record["stems"].reverse()  # noqa: E731


@pytest.mark.parametrize(
    ("place", "change"), [("", RENAMED), ("", ELSEWHERE), ("street", SWAPPED)], ids=["class", "section", "stems"]
)
def test_what_was_changed_since_it_was_written_is_refused_and_noticed(
    store: Store, capsys: pytest.CaptureFixture[str], place: str, change: Change
) -> None:
    change_json(store.path / place / "zarr.json", lambda values: change(values["attributes"]["vss"]))
    with pytest.raises(VssError, match="does not say what was written"):
        open_store(store.path).label("street", 0)
    workspace = store.path.parent / "runs"
    (workspace / "stores/sample/val").mkdir(parents=True)
    shutil.move(store.path, workspace / "stores/sample/val/a.zarr")
    assert run(["cache", "verify", "--workspace", str(workspace)]) == 2
    assert "does not say what was written" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\\\ud800"'])
@pytest.mark.parametrize("file", ["zarr.json", "street/zarr.json"])
def test_what_no_seal_can_be_of_is_a_broken_one(store: Store, file: str, value: str) -> None:
    path = store.path / file
    text = path.read_text().replace('"vss": {', f'"vss": {{"odd": {value},', 1)
    assert text != path.read_text()
    path.write_text(text)
    with pytest.raises(VssError):
        open_store(store.path).label("street", 0)
