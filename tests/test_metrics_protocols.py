"""Names of protocols."""

from __future__ import annotations

from typing import get_args

import pytest

from vsscli.errors import VssError
from vsscli.metrics.protocols import DEFAULT_PROTOCOL, PROTOCOLS, ProtocolName, get_protocol


def test_the_published_ways_have_names_and_a_sentence_each() -> None:
    assert list(PROTOCOLS) == ["vspw", "mapped", "pooled", "cffm"] == list(get_args(ProtocolName))
    assert DEFAULT_PROTOCOL == "vspw"
    for name, protocol in PROTOCOLS.items():
        assert get_protocol(name) is protocol
        assert protocol.name == name
        assert len(protocol.description) > 20


def test_ground_truth_is_raw_where_the_script_reads_it_raw() -> None:
    assert [name for name, protocol in PROTOCOLS.items() if protocol.raw] == ["vspw", "pooled"]


def test_a_mistyped_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(VssError, match="'cfmm'") as error:
        get_protocol("cfmm")
    assert error.value.hint == "did you mean cffm?"


def test_an_unlike_name_is_answered_with_all() -> None:
    with pytest.raises(VssError) as error:
        get_protocol("zzz")
    assert all(name in error.value.hint for name in PROTOCOLS)


@pytest.mark.parametrize(("length", "window", "windows"), [(20, 8, 12), (9, 8, 1), (8, 8, 0), (5, 8, 0)])
def test_the_last_window_is_never_counted(length: int, window: int, windows: int) -> None:
    assert get_protocol("vspw").windows(length, window) == windows


def test_only_cffm_leaves_short_videos_out_of_every_figure() -> None:
    for name in ("vspw", "mapped", "pooled"):
        assert get_protocol(name).counts_video(1, (8, 16))
    cffm = get_protocol("cffm")
    assert not cffm.counts_video(16, (8, 16))
    assert cffm.counts_video(17, (8, 16))
    assert not cffm.counts_video(16), "mIoU alone leaves them out as well"
    assert not cffm.counts_video(32, (8, 32)), "and a longer window raises the bar"
