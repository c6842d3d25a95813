"""deepinv's side of `deconvolution.py`: runs in a Python that has deepinv, and knows nothing of this project.

    python benchmarks/deconvolution_deepinv.py JOB.npz RESULT.npz

JOB.npz: psf (P, C, h, w) with start (2,), frames (P, C, h, w), probe (1, C, h, w), and `jobs`, a JSON list of {name,
algorithm, ...}. Picture i has the PSF i. RESULT.npz: by job the pictures (P, C, h, w), clock and processor time of
each, and the frames that the operator makes of the probe, to show that it is the same.
PSF and frames are divided by the spectral norm first, so that steps and strengths mean the same for every picture.
"""

import json
import sys
import time

import numpy as np
import torch

OPERATORS_OF_TORCHVISION = (
    "nms", "qnms", "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool",
    "_roi_pool_backward", "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align", "deform_conv2d",
    "_deform_conv2d_backward",
)  # fmt: skip


def imported():
    """deepinv, which imports torchvision. Of one that was built for another torch, compiled operators are named only.

    Nothing here calls them.
    """
    try:
        import torchvision  # noqa: F401

        library = None
    except RuntimeError:  # "operator torchvision::nms does not exist"
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for name in OPERATORS_OF_TORCHVISION:
            library.define(f"{name}(Tensor a) -> Tensor")
    import deepinv

    return deepinv, library


def main():
    """Every job on every picture."""
    torch.set_num_threads(1)
    deepinv, library = imported()
    with np.load(sys.argv[1]) as given:
        psfs, frames = (torch.from_numpy(given[name]) for name in ("psf", "frames"))
        probe, jobs = torch.from_numpy(given["probe"]), json.loads(str(given["jobs"]))
    found = {"version": deepinv.__version__, "threads": torch.get_num_threads()}
    with torch.no_grad():
        found["probe"] = operator(deepinv, psfs[:1]).A(probe).numpy()
        for job in jobs:
            pictures, clock, processor = [], [], []
            for psf, frame in zip(psfs, frames, strict=True):
                psf, frame = psf[None], frame[None]
                solve = prepared(deepinv, job, psf, tuple(frame.shape[1:]))
                began = time.perf_counter(), time.process_time()
                picture = solve(frame)
                clock.append(time.perf_counter() - began[0])
                processor.append(time.process_time() - began[1])
                pictures.append(picture[0].clamp(0, 1).numpy())
            name = job["name"]
            found |= {f"{name}/pictures": np.stack(pictures), f"{name}/clock": clock, f"{name}/processor": processor}
    np.savez(sys.argv[2], **found)
    del library


def operator(deepinv, psf):
    """Window in the middle of the convolution, dark outside the scene."""
    return deepinv.physics.Blur(filter=psf, padding="constant", use_fft=True)


def prepared(deepinv, job, psf, shape):
    """A function from a frame (1, C, h, w) to a picture; what depends on the PSF alone is done before the clock."""
    norm = float(torch.fft.rfft2(psf, s=(2 * psf.shape[-2], 2 * psf.shape[-1])).abs().max())
    fidelity = deepinv.optim.L2()
    if job["algorithm"] == "wiener":
        room = [side // 2 if job["padded"] else 0 for side in shape[1:]]
        whole = (shape[0], shape[1] + 2 * room[0], shape[2] + 2 * room[1])
        physics = deepinv.physics.BlurFFT(img_size=whole, filter=psf / norm)
        wiener = deepinv.models.WienerDeconvolution(lambda_reg=job["strength"], prior=job["prior"])

        def filtered(frame):
            wide = torch.nn.functional.pad(frame / norm, (room[1], room[1], room[0], room[0]))
            return wiener(wide, physics)[..., room[0] : room[0] + shape[1], room[1] : room[1] + shape[2]]

        return filtered
    physics = operator(deepinv, psf / norm)
    physics.max_iter = job["least_squares_steps"]
    if job["algorithm"] == "tikhonov":
        return lambda frame: physics.prox_l2(0.0, frame / norm, gamma=1 / job["strength"])

    class WithinLimits(deepinv.optim.TVPrior):
        """Total variation, then the limits 0..1."""

        def prox(self, x, *args, gamma=1.0, **kwargs):
            return super().prox(x, *args, gamma=gamma, **kwargs).clamp(0, 1)

    def solve(frame):
        prior = WithinLimits(n_it_max=job["inner"])  # anew: it starts where the last picture ended
        prior.TVModel.tau = job["tau"]
        settings = {"data_fidelity": fidelity, "prior": prior, "lambda_reg": job["strength"]}
        if job["algorithm"] == "fista":
            model = deepinv.optim.FISTA(stepsize=1.0, max_iter=job["iterations"], **settings)
        else:
            model = deepinv.optim.ADMM(stepsize=job["stepsize"], max_iter=job["iterations"], **settings)
        return model(frame / norm, physics)

    return solve


if __name__ == "__main__":
    main()
