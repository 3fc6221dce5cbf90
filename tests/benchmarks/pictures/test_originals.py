"""Which pictures are one again, which are related, and that relations never stand on both sides."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageEnhance, ImageOps

from benchmarks.pictures.originals import (
    RELATED,
    SAME,
    Original,
    alikeness,
    describe,
    find_originals,
    hold_out,
    is_rich,
    name_family,
    open_picture,
    share_of_detail,
)
from tests.benchmarks.pictures.scenes import draw_scene


def save(picture: Image.Image, path: Path) -> tuple[str, Path]:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return "package", path


def test_of_variants_the_largest_is_taken_once(tmp_path: Path) -> None:
    large = draw_scene(0, (1200, 800))
    files = [
        save(large.resize((900, 600)), tmp_path / "Hills/contents/images/900x600.png"),
        save(large, tmp_path / "Hills/contents/images/1200x800.png"),
        save(ImageOps.invert(large), tmp_path / "Hills/contents/images_dark/1200x800.png"),
        save(ImageEnhance.Brightness(ImageOps.mirror(large)).enhance(0.7), tmp_path / "another name.png"),
        save(draw_scene(1, (1200, 800)), tmp_path / "Sea-l.png"),
        save(draw_scene(1, (300, 200)), tmp_path / "small.png"),
        save(Image.new("RGB", (1200, 800), (10, 90, 200)), tmp_path / "plain.png"),
    ]
    found = find_originals(files)
    assert [original.path.name for original in found] == ["1200x800.png", "Sea-l.png"]
    assert found[0].size == (1200, 800)
    assert found[0].family != found[1].family


def test_scenes_that_overlap_are_a_family(tmp_path: Path) -> None:
    scene = draw_scene(2, (1000, 1000))
    changed = scene.copy()
    changed.paste(draw_scene(3, (1000, 500)), (0, 500))
    likeness = alikeness(describe(scene), describe(changed)[None])[0]
    assert RELATED < likeness < SAME
    found = find_originals([save(scene, tmp_path / "with people.png"), save(changed, tmp_path / "empty.png")])
    assert len(found) == 2
    assert found[0].family == found[1].family


def test_transparent_pictures_are_left_out(tmp_path: Path) -> None:
    figure = draw_scene(4, (600, 600)).convert("RGBA")
    figure.putalpha(Image.linear_gradient("L").resize((600, 600)))
    assert find_originals([save(figure, tmp_path / "figure.png")]) == []
    assert open_picture(tmp_path / "figure.png").getpixel((5, 0)) == (90, 90, 90)


def test_no_family_is_on_both_sides() -> None:
    names = [f"{word}{number}.jpg" for word in ("sea", "sky", "town", "wood", "hill") for number in range(4)]
    originals = [Original(Path(name), "package", name_family(Path(name)), (2000, 1500)) for name in names]
    small = Original(Path("icon.png"), "package", "icon", (600, 500))
    for seed in range(10):
        kept, held_out = hold_out([*originals, small], seed, 0.3, 720)
        assert not {original.family for original in kept} & {original.family for original in held_out}
        assert len(kept) + len(held_out) == 21
        assert small in kept
        assert (kept, held_out) == hold_out([*originals, small], seed, 0.3, 720)


def test_families_too_large_are_not_held_out() -> None:
    series = [Original(Path(f"sea{number}.jpg"), "package", "sea", (2000, 1500)) for number in range(40)]
    others = [Original(Path(f"{number}.jpg"), "package", str(number), (2000, 1500)) for number in range(10)]
    kept, held_out = hold_out([*series, *others], 0, 0.15, 720)
    assert set(series) <= set(kept)
    assert len(held_out) == 8


def test_detail_is_asked_for_everywhere() -> None:
    scene = draw_scene(5, (512, 512))
    assert is_rich(scene)
    assert share_of_detail(scene) == 1
    scene.paste((90, 90, 90), (0, 0, 512, 384))
    assert share_of_detail(scene) < 0.4
