"""A photo -> a scan of an old print of it with damage, and the mask of the damage: to train and measure its finder."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from idinpaint.damage.synthetic import SHAPES, SHARES, log_uniform, smooth_noise
from idinpaint.types import LUMA

COVERED = 0.10  # share of a pixel from which it is damage
FAINT = 0.03  # from here to COVERED: neither damage nor not
THICK = 32  # px, a box's least side: a narrower one is a stroke
VISIBLE = 9.0  # levels; damage that changes less nobody can see
WORDS = ("1936", "Anna & Paul", "Sommer 1962", "No. 47", "KODAK", "Mit Liebe", "Photo Atelier", "12.05.1981", "NEWS")
PAPER = ((252, 250, 245), (238, 230, 214), (224, 206, 176), (255, 255, 255))
DARK = ((6, 6, 6), (30, 26, 24), (52, 40, 30), (70, 60, 58))


def print_look(rng: np.random.Generator, photo: np.ndarray) -> np.ndarray:
    """float32 [h, w, 3] in 0..255, of uint8 or float32, with a print's colour (its own, grey or sepia), fading,
    vignette and grain."""
    image = photo.astype(np.float32)
    look = rng.random()
    if look < 0.55:
        grey = image @ np.float32(LUMA)
        image = np.repeat(grey[..., None], 3, 2)
        if look < 0.3:  # sepia, selenium
            image = image * (1 + rng.uniform(0.1, 1) * np.array([0.12, -0.01, -0.2], np.float32))
    contrast = rng.uniform(0.55, 1.15)
    image = (image - 128) * contrast + 128 + rng.uniform(-25, 25)
    if rng.random() < 0.3:
        image = image * (1 - rng.uniform(0, 0.3) * np.clip(smooth_noise(rng, photo.shape[:2], 150), 0, 1.5))[..., None]
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), log_uniform(rng, 0.4, 2.5))
    if rng.random() < 0.6:
        strength, cell = log_uniform(rng, 1, 13), rng.choice([1.0, 1.0, 1.6, 2.5])
        grain = smooth_noise(rng, photo.shape[:2], cell) if cell > 1 else rng.standard_normal(photo.shape[:2])
        image = image + (strength * grain).astype(np.float32)[..., None]
    return image.clip(0, 255)


def add_marks(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Things that belong to the print and are no damage: writing, a stamp's frame, a white margin. float32 in, out."""
    height, width = image.shape[:2]
    chance = rng.random()
    if chance < 0.55:
        layer = Image.new("L", (width, height), 0)
        pen = ImageDraw.Draw(layer)
        for _ in range(int(rng.integers(1, 4))):
            font = ImageFont.load_default(size=log_uniform(rng, 9, 46))
            where = (rng.uniform(-0.1, 0.8) * width, rng.uniform(0, 0.95) * height)
            pen.text(where, str(rng.choice(WORDS)), fill=int(rng.integers(120, 256)), font=font)
        layer = layer.rotate(rng.normal(0, 6), resample=Image.Resampling.BILINEAR)
        alpha = np.asarray(layer, np.float32)[..., None] / 255
        colour = rng.choice([PAPER[3], DARK[0], (200, 40, 30), (30, 40, 130), (250, 170, 40)]).astype(np.float32)
        image = image * (1 - alpha) + colour * alpha
    if chance > 0.4:  # the paper's margin, or a card's frame
        margin = rng.integers(0, 24, 4) * (rng.random(4) < 0.6)
        top, bottom, left, right = (int(m) for m in margin)
        colour = np.array(PAPER[rng.integers(len(PAPER))] if rng.random() < 0.8 else DARK[0], np.float32)
        inside = image[top : height - bottom, left : width - right].copy()
        image = np.broadcast_to(colour, image.shape) + rng.normal(0, 1.5, image.shape).astype(np.float32)
        image[top : height - bottom, left : width - right] = inside
    return image


def add_things(rng: np.random.Generator, image: np.ndarray, rims: float = 0.0) -> np.ndarray:
    """One to five things with sharp or round outlines and even shading, as faces' photos have few: bands, stripes,
    signs, balls, rings, pieces of the picture itself; rims: share of rims. No damage. float32 [h, w, 3] in, out."""
    height, width = image.shape[:2]
    for _ in range(int(rng.integers(1, 6))):
        if rng.random() < rims:
            image = add_rim(rng, image)
            continue
        layer = np.zeros((height, width), np.uint8)
        centre = (rng.uniform(0, 1, 2) * [width, height]).astype(int)
        sides = [int(log_uniform(rng, 6, 0.5 * max(height, width))) for _ in range(2)]
        kind, angle = int(rng.integers(5)), float(rng.uniform(0, 180))
        if kind == 0:
            sides = [max(side, THICK) for side in sides]
            box = cv2.boxPoints((tuple(map(float, centre)), tuple(map(float, sides)), angle))
            cv2.fillPoly(layer, [np.rint(box * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        elif kind in (1, 2):
            thick = -1 if kind == 1 else int(rng.integers(3, 16))
            cv2.ellipse(layer, tuple(map(int, centre)), tuple(sides), angle, 0, 360, 255, thick, cv2.LINE_AA)
        else:  # stripes, or one band
            step = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
            along, gap = np.array([-step[1], step[0]]) * 2 * max(height, width), int(rng.integers(24, 64))
            thick = int(rng.integers(30, 70) if kind == 3 else rng.integers(gap // 3, gap // 2 + 4))
            for index in range(1 if kind == 3 else int(rng.integers(2, 6))):
                middle = centre + step * index * gap
                ends = [tuple(map(int, middle + along * end)) for end in (-1, 1)]
                cv2.line(layer, *ends, 255, thick, cv2.LINE_AA)
        shade = 1 + rng.uniform(0, 0.35) * smooth_noise(rng, (height, width), log_uniform(rng, 20, 120))[..., None]
        if rng.random() < 0.3:
            fill = np.roll(image[:, ::-1], tuple(rng.integers(0, 90, 2)), (0, 1))
        else:
            tone = rng.choice([rng.uniform(0, 60), rng.uniform(180, 255), rng.uniform(0, 255)])
            if kind >= 2:  # a line as white as paper, or black, is a scratch to everybody
                tone = rng.uniform(60, 190)
            fill = (tone + rng.normal(0, 3 if rng.random() < 0.6 else 40, 3)) * shade
        cover = cv2.GaussianBlur(layer.astype(np.float32) / 255, (0, 0), rng.uniform(0.3, 1.6))[..., None]
        image = image * (1 - cover) + fill.clip(0, 255).astype(np.float32) * cover
    return image


def add_rim(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """One thing with a rim, as helmets, hats' brims, collars and frames of glasses have: an arc or a whole ring,
    bright or dark, even or like a sickle, shaded along and across; what it surrounds may have a tone of its own. A
    piece of a very large one is a strap. No damage. float32 [h, w, 3] in, out."""
    height, width = image.shape[:2]
    longest = max(height, width)
    ys, xs = np.mgrid[:height, :width].astype(np.float32)
    strap = rng.random() < 0.2
    radius = log_uniform(rng, 1, 4) * longest if strap else log_uniform(rng, 0.06, 0.6) * longest
    angle, side = rng.uniform(0, 2 * np.pi, 2)
    middle = rng.uniform(0, 1, 2) * [width, height]  # of the rim, where it is widest
    x, y = middle - radius * np.array([np.cos(side), np.sin(side)])
    radii = (radius, radius) if strap else (radius, radius * rng.uniform(0.55, 1))
    u = (np.cos(angle) * (xs - x) + np.sin(angle) * (ys - y)) / radii[0]
    v = (np.cos(angle) * (ys - y) - np.sin(angle) * (xs - x)) / radii[1]
    depth = (1 - np.hypot(u, v)) * min(radii)  # px inside of the outline
    facing = np.cos(np.arctan2(v, u) + angle - side)  # 1 in the middle of the rim, -1 across
    if not strap and rng.random() < 0.7:
        tone = rng.uniform(0, 70) if rng.random() < 0.6 else rng.uniform(0, 255)
        body = tone + rng.normal(0, 5, 3) + rng.uniform(0, 60) * np.clip(facing * depth / min(radii), 0, 1)[..., None]
        inside = np.clip(depth + 0.5, 0, 1)[..., None]
        image = image * (1 - inside) + body.astype(np.float32) * inside
    form = rng.random()
    least = 2.5 if form < 0.3 else 6.0  # px; a thin arc by itself is a scratch to everybody
    wide = log_uniform(rng, least, max(least, min(0.4 * min(radii), 0.13 * longest)))
    if strap:
        wide, ends = log_uniform(rng, 8, 30), np.ones_like(facing)
    elif form < 0.3:  # a whole ring
        ends = 1 + rng.uniform(-0.4, 0.4) * facing
    elif form < 0.65:  # a sickle
        ends = np.clip((facing + rng.uniform(-0.6, 0.8)) / 1.5, 0, 1) ** rng.uniform(0.3, 1)
    else:  # a piece with ends
        ends = np.clip((facing - rng.uniform(-0.8, 0.8)) * rng.uniform(5, 80), 0, 1)
    band = wide * ends
    cover = np.clip(depth + 0.5, 0, 1) * np.clip(band - depth + 0.5, 0, 1) * (band > 0.7)
    across = np.abs(np.clip(depth / np.maximum(band, 1), 0, 1) - rng.uniform(0, 1))
    shade = 1 - (rng.uniform(0.3, 0.7) if strap else 0.6 * rng.random() ** 2) * across
    shade *= 1 - 0.4 * rng.random() ** 2 * (1 - facing) / 2
    shade *= 1 + rng.uniform(0, 0.12) * smooth_noise(rng, (height, width), log_uniform(rng, 10, 80))
    tone = rng.uniform(185, 285) if strap or rng.random() < 0.8 else rng.uniform(0, 185)
    fill = (tone + rng.normal(0, 4 if rng.random() < 0.7 else 35, 3)) * shade[..., None]
    soft = cv2.GaussianBlur(cover.astype(np.float32), (0, 0), rng.uniform(0.3, 1.4))[..., None]
    return image * (1 - soft) + fill.clip(0, 255).astype(np.float32) * soft


def _painted(rng: np.random.Generator, image: np.ndarray, alpha: np.ndarray, kind: str) -> tuple[np.ndarray, float]:
    """(the photo with the damage in it, its opacity); what it looks like is drawn here."""
    size = image.shape[:2]
    if kind == "blotch" and rng.random() < 0.6:  # a stain lets the photo through
        tint = rng.choice([(0.75, 0.6, 0.4), (0.5, 0.45, 0.4), (0.85, 0.75, 0.55), (0.35, 0.3, 0.28)])
        stained = image * tint.astype(np.float32) + rng.uniform(-10, 30)
        opacity = rng.uniform(0.45, 1.0)
    else:
        palette = PAPER if rng.random() < (0.62 if kind != "corner" else 0.85) else DARK
        colour = np.array(palette[rng.integers(len(palette))], np.float32) + rng.normal(0, 8, 3)
        if rng.random() < 0.15 and kind in ("strokes", "blotch", "dust"):
            colour = rng.uniform(0, 255, 3)
        texture = rng.uniform(0, 12) * smooth_noise(rng, size, log_uniform(rng, 1.5, 12))
        texture += rng.uniform(0, 6) * rng.standard_normal(size, dtype=np.float32)
        stained = colour.astype(np.float32) + texture[..., None]
        opacity = 1.0 if kind in ("corner", "tear") else rng.uniform(0.35, 1.0) ** 0.5
    cover = (alpha * opacity)[..., None]
    return image * (1 - cover) + stained.clip(0, 255) * cover, opacity


def add_damage(
    rng: np.random.Generator, image: np.ndarray, only: str | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(damaged float32 [h, w, 3], cover float32 [h, w] in [0, 1], change in levels [h, w]) of one to four kinds, or
    of the one kind that is named."""
    before, cover = image, np.zeros(image.shape[:2], np.float32)
    for _ in range(int(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.15, 0.1]))):
        kind = only or str(rng.choice(list(SHAPES), p=SHARES))
        alpha = SHAPES[kind](rng, image.shape[:2])
        image, _ = _painted(rng, image, alpha, kind)
        cover = np.maximum(cover, alpha)
    return image, cover, np.abs(image - before).max(-1)


def scanned(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """uint8: blurred a little, with the scanner's noise, saved as JPEG most times."""
    if rng.random() < 0.4:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.9))
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0.5, 4), image.shape).astype(np.float32)
    pixels = np.rint(image.clip(0, 255)).astype(np.uint8)
    if rng.random() < 0.7:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=int(rng.integers(45, 97)))
        pixels = np.asarray(Image.open(file))
    return pixels


def damaged_print(
    rng: np.random.Generator,
    photo: np.ndarray,
    damaged: float = 0.8,
    marked: float = 0.3,
    things: float = 0.0,
    rims: float = 0.0,
    only: str | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(print uint8 [h, w, 3], damage bool [h, w], certain bool [h, w]) of a photo uint8 [h, w, 3].

    damaged, marked, things: how often there is damage, writing or a margin, things with even outlines. rims: share of
    those things that have a bright edge. certain: False
    on faint rims and where the damage does not show.
    """
    image = photo.astype(np.float32)
    if rng.random() < things:
        image = add_things(rng, image, rims)
    image = print_look(rng, image)
    if rng.random() < marked:
        image = add_marks(rng, image)
    cover, change = np.zeros(photo.shape[:2], np.float32), np.zeros(photo.shape[:2], np.float32)
    if rng.random() < damaged:
        image, cover, change = add_damage(rng, image, only)
    mask = cover >= COVERED
    certain = np.where(mask, change >= VISIBLE, cover < FAINT)
    return scanned(rng, image), mask, certain
