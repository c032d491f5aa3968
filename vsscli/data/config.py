"""Sections of recipes about data: where it is and what it means, and how crops are chosen and augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from vsscli.data.trees import TREES, tree_of
from vsscli.drawn.config import Scene
from vsscli.names import sound_name
from vsscli.section import Factor, Fraction, Positive, Section, Side, Size, Split

if TYPE_CHECKING:
    Layout = str
else:
    Layout = Literal[(*TREES, "images")]


class Data(Section):
    """Where the videos are and what their masks mean."""

    name: Annotated[str, AfterValidator(sound_name)] = Field(
        "vspw", description="name of the data set in messages, and of the folder of its stores"
    )
    root: str = Field(
        "data/vspw",
        description="folder of the data set, relative to the working directory; `.`: the folder of the recipe itself",
    )
    root_env: str | None = Field(None, description="environment variable that overrides `root` when set")
    layout: Layout = Field("vspw", description="how files lie under `root`; an image is a video of one frame")
    images: str | None = Field(None, description="layout images: folder of a split's images, such as `images/{split}`")
    masks: str | None = Field(
        None,
        description="layout images: folder of a split's masks, such as `masks/{split}`; layout files: pattern of the "
        "masks, such as `labels/{video}/{frame}.png`",
    )
    videos: tuple[str, ...] = Field(
        (),
        description="layout files: video files, folders of frames, and folders of these, or patterns (`clips/*.mp4`); "
        "`day1/*.jpg` is the video of these frames, without those in folders below",
    )
    first_frame: int = Field(
        0,
        ge=0,
        description="layout files: number that the masks of video files give the first frame; 1 if the frames were "
        "extracted with ffmpeg",
    )
    stills: tuple[str, ...] = Field((), description="layout files: folders of images that are not videos")
    held_out: tuple[str, ...] = Field(
        (),
        description="layout files: videos or frames that are in `val` and not in `train`, such as "
        "`clip1/000100..000199`",
    )
    classes: str = Field("vspw124", description="a class table that ships with vss, or a JSON/YAML file under the root")
    void_ids: tuple[int, ...] = Field((0, 255), description="mask values that mean no class")
    first_id: int = Field(1, ge=0, le=255, description="mask value of class 0; the other classes follow")
    unknown_ids: Literal["error", "void"] = Field("error", description="what to do with other mask values")
    remap: str | None = Field(
        None,
        description="mapping by which another data set's masks are read in `classes`: ade20k, … or a YAML file; it "
        "says what mask values mean, and the three fields above are ignored",
    )
    train: Split | Annotated[tuple[Split, ...], Field(min_length=1)] = Field(
        "train", description="split with labels to train on, or several"
    )
    val: Split = Field("val", description="split to evaluate on")
    labelled: str | None = Field(
        None,
        description="list of <video>/<stem>: only these labels of `train` are used; none: all masks that exist",
    )
    unlabelled: tuple[Split, ...] = Field(
        (), description="splits used as unlabelled data, besides the unlabelled frames of `train`"
    )
    publisher: str = Field("", description="where the owners of the data publish it")
    without: str = Field("", description="a recipe to try if the data is not available")
    scene: Scene | None = Field(None, description="draw synthetic videos at `root` if it does not exist")

    @property
    def train_splits(self) -> tuple[str, ...]:
        """The splits to train on, one or several."""
        return (self.train,) if isinstance(self.train, str) else self.train

    @model_validator(mode="after")
    def _tree_is_known(self) -> Data:
        if self.layout == "images" and self.images is None:
            raise ValueError("layout images needs `images`, the folder of a split's images: images/{split}")
        if self.layout == "files":
            self._files_are_known()
        elif self.videos or self.stills or self.held_out or self.first_frame:
            raise ValueError("`videos`, `first_frame`, `stills` and `held_out` belong to layout files")
        for name, template in (("images", self.images), ("masks", self.masks)):
            if template is None or (name == "masks" and self.layout == "files"):
                continue
            if self.layout != "images":
                raise ValueError(f"`{name}` is only for layout images; layout {self.layout} has its own folders")
            if set(template.replace("{split}", "")) & set("{}"):
                raise ValueError(f"`{name}` may contain {{split}} but no other braces, not {template!r}")
        if self.remap is None and tree_of(self).files not in (None, "values"):
            raise ValueError(
                f"layout {self.layout} needs `remap` to read its masks: {self.layout}, or your own mapping"
            )
        return self

    def _files_are_known(self) -> None:
        if not self.videos and not self.stills:
            raise ValueError("layout files needs `videos`, such as [clips], or `stills`, folders of single images")
        pattern = self.masks
        if pattern is not None and (
            pattern.count("{frame}") != 1 or set(pattern.replace("{frame}", "").replace("{video}", "")) & set("{}")
        ):
            raise ValueError(f"`masks` is a pattern as in `labels/{{video}}/{{frame}}.png`, not {pattern!r}")


class Also(Section):
    """A further data set to train on, in the classes of `data`."""

    data: Data
    share: float = Field(ge=0.001, lt=1, description="average share of the labelled crops that come from this set")
    size: Side | None = Field(None, description="short side of its frames at scale 1; none: `augment.size`")

    @property
    def thousandths(self) -> int:
        """The share in thousandths, its resolution."""
        return round(self.share * 1000)

    @model_validator(mode="after")
    def _gives_labels_only(self) -> Also:
        if self.data.unlabelled:
            raise ValueError("data.unlabelled can't be set here: unlabelled frames come only from the main `data`")
        return self


class Augment(Section):
    """Training augmentation, as in the paper."""

    scale: tuple[Factor, Factor] = Field((0.5, 2.0), description="random resize, uniform in this range")
    size: Side | None = Field(None, description="short side at scale 1; none: the frame's own")
    crop: Size = (480, 480)
    single_class_limit: Fraction = Field(0.75, description="crops with more of one class are drawn again")
    flip: Fraction = 0.5
    brightness: float = Field(0.125, ge=0)
    contrast: float = Field(0.5, ge=0)
    saturation: float = Field(0.5, ge=0)
    hue: float = Field(0.05, ge=0, le=0.5)
    colour_jitter: Fraction = Field(0.8, description="probability of changing colours at all")

    @model_validator(mode="after")
    def _scales_are_a_range(self) -> Augment:
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale should be a range with the lower end first, not {list(self.scale)}")
        return self


class RareClasses(Section):
    """Crops chosen by class, rare ones first, as DAFormer does (Hoyer et al. 2022)."""

    temperature: float = Field(0.01, ge=0.001, description="the higher, the more alike all probabilities are")
    share: float = Field(1.0, gt=0, le=1, description="share of the labelled crops that are chosen this way")
    pixels: Positive = Field(
        3000, description="pixels of a class that a frame must hold to be chosen for it; its crop holds half as many"
    )
