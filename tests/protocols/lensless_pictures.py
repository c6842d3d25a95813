"""Pictures and a PSF for tests of lensless cameras."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter


def caustic(shape, *, seed, smooth_px=2.0, rays_per_pixel=100):
    """Light behind a random smooth surface, as of a diffuser: rays bend with its slope and gather in bright lines."""
    draws = np.random.default_rng(seed)
    inner = (shape[0] * 2 // 3, shape[1] * 2 // 3)
    fine = 8
    surface = gaussian_filter(draws.standard_normal([fine * n for n in inner]), fine * smooth_px, mode="wrap")
    slopes = np.gradient(surface / surface.std(), 1 / fine)
    count = rays_per_pixel * inner[0] * inner[1]
    rows, columns = (draws.integers(0, fine * n, count) for n in inner)
    lands = [
        place / fine + (whole - n) / 2 + 4.0 * slope[rows, columns] / np.abs(slope).max()
        for place, whole, n, slope in zip((rows, columns), shape, inner, slopes, strict=True)
    ]
    light, _, _ = np.histogram2d(*lands, bins=shape, range=[(0, n) for n in shape])
    return torch.from_numpy((light / light.sum()).astype(np.float32))


def pictures(count, shape, *, channels=1):
    """Cut from photographs of things, (count, channels, *shape) in 0..1, black towards their edges as on a monitor."""
    from skimage import data
    from skimage.transform import resize

    sources = [data.coins(), data.camera(), data.moon(), data.page(), data.brick(), data.text(), data.clock()]
    drawn = np.zeros((count, channels, *shape), np.float32)
    for number in range(count):
        for channel in range(channels):
            source = sources[(number + 3 * channel) % len(sources)] / 255.0
            inside = (shape[0] - 6, shape[1] - 8)
            drawn[number, channel, 3:-3, 4:-4] = resize(source, inside, anti_aliasing=True)
    return torch.from_numpy(drawn)
