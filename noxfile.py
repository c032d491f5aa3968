"""Sessions: ``nox`` runs style, types and tests; the others are run by name."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = True
nox.options.default_venv_backend = "uv|virtualenv"  # uv installs torch and its libraries in a third of pip's time
os.environ.setdefault("UV_SYSTEM_CERTS", "1")  # as pip does: behind a company's proxy there is no other way

# Tests start some hundred programs. Where Python is told to keep nothing that it compiles, as in many images of
# containers, each of them would compile all that it imports anew: ten seconds of work for torch and us.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Hubs are never asked in a test: what is tested must be at hand. Several test processes on few cores are ten times
# slower when each of them spins threads of its own.
QUIET = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
OFFLINE = {"HF_HUB_OFFLINE": "1"}

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
WORKERS = os.environ.get("VSS_TEST_WORKERS", str(CORES + 1))
"""Test processes: one more than there are cores, since tests wait for children and disks a fifth of the time."""

SPREAD = ("-n", WORKERS, "--dist", "loadfile", "--no-loadscope-reorder")
"""A file's tests run in one process, so that what they share is made once; files in the order of their names."""


def install(session: nox.Session) -> None:
    # pip would compile everything, on one core, which takes as long as the rest of installing.
    session.install("--no-compile", "-c", "constraints.txt", "-e", ".[test,docs,weights]")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and simple mistakes."""
    session.install("-c", "constraints.txt", "ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test that takes seconds, types among them."""
    install(session)
    if session.posargs:
        session.run("pytest", *session.posargs, env=QUIET)
        return
    # Test processes that begin together would each compile all that they import: the first one does it alone, on one
    # core, while types are checked on another.
    with ThreadPoolExecutor() as beside:
        types = beside.submit(session.run, "mypy", silent=True)
        session.run("pytest", "--collect-only", "-qq", silent=True, env=QUIET)
        types.result()
    session.run("pytest", *SPREAD, "-m", "not slow and not mmseg and not ray", env=QUIET)


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take minutes, among them the twin of the whole submission."""
    install(session)
    # Of its own: a compilation that was once cut off leaves an empty library in the usual place, for ever.
    compiled = {"TORCHINDUCTOR_CACHE_DIR": session.create_tmp()}
    session.run("pytest", "-m", "slow", *session.posargs, env={**OFFLINE, **compiled})


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as a site, in docs/_build."""
    install(session)
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build", env=OFFLINE)


@nox.session
def mmseg(session: nox.Session) -> None:
    """Networks of mmsegmentation through the extra, against mmsegmentation itself."""
    session.install("-c", "constraints.txt", "-e", ".[test,mmseg]")
    session.run("pytest", "-m", "mmseg", *(session.posargs or ["tests/test_mmseg_networks.py"]), env=QUIET)


@nox.session
def transformers(session: nox.Session) -> None:
    """Converted networks of the transformers library against its own classes."""
    session.install("-c", "constraints.txt", "-e", ".[test]", "transformers")
    session.run("pytest", *(session.posargs or ["tests/test_models_official_transformers.py"]), env=QUIET)


S3 = ("s3fs==2026.9.0", "aiobotocore==3.10.0", "boto3==1.43.117", "moto[s3]==5.2.5", "flask", "flask-cors")
"""An S3 server and its client. They need an older python-dateutil than constraints.txt has; without the exact versions
pip tries hundreds, since aiobotocore takes few of botocore's."""


@nox.session
def ray(session: nox.Session) -> None:
    """Work shared out to a Ray cluster of nodes on this machine, and their deaths; a store on an S3 server."""
    session.install("-c", "constraints.txt", "-e", ".[test,ray]")
    session.install(*S3)
    session.run("pytest", "-m", "ray", *(session.posargs or ["tests/test_engine_ray.py"]), env=QUIET)


LIGHT = (
    *("numpy", "scipy", "scikit-image", "pillow", "pyyaml", "zlib-ng", "numcodecs", "google-crc32c", "fsspec"),
    *("pydantic>=2.9", "platformdirs", "pytest>=8"),
)
"""What vsscli/exchange and vsscli/store import; torch is not among it."""

FOREIGN = {
    "coco": ["pycocotools", "panopticapi-lite"],
    "cvat": ["cvat-sdk", "cvat-cli"],
    "label_studio": ["label-studio-sdk"],
    "label_studio_backend": ["label-studio-ml", "label-studio-tools", "redis", "rq", "flask", "lxml", "setuptools<81"],
    "labelme_files": ["labelme"],
    "datumaro_formats": ["datumaro"],
    "fiftyone_dataset": ["fiftyone"],
    "ultralytics_labels": ["ultralytics-opencv-headless"],
    "napari_layers": ["napari", "zarr>=3.1", "xarray"],
}
"""Packages by the file in tests/foreign that needs them."""


@nox.session
@nox.parametrize("reader", list(FOREIGN))
def exchange(session: nox.Session, reader: str) -> None:
    """Labels in other programs' formats, and stores, against these programs, each in an environment of its own."""
    session.install(*LIGHT, *FOREIGN[reader])
    place = {**QUIET, "PYTHONPATH": os.pathsep.join((".", "tests")), "QT_QPA_PLATFORM": "offscreen"}
    session.run("pytest", "--noconftest", "-p", "no:cacheprovider", f"tests/foreign/{reader}.py", env=place)


@nox.session
def trackers(session: nox.Session) -> None:
    """Figures of trainings to Weights & Biases and MLflow, offline: their own files are read back."""
    session.install(*LIGHT, "wandb", "mlflow-skinny")
    place = {**QUIET, "PYTHONPATH": os.pathsep.join((".", "tests"))}
    session.run("pytest", "--noconftest", "-p", "no:cacheprovider", "tests/foreign/trackers.py", env=place)


@nox.session
def browser(session: nox.Session) -> None:
    """The page of a report in headless Chromium, which must be installed: /usr/bin/chromium, or $VSS_CHROMIUM."""
    install(session)
    session.install("-c", "constraints.txt", "playwright")
    session.run("pytest", "tests/browser/report_page.py", *session.posargs, env={**QUIET, "PYTHONPATH": "tests"})


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks behind docs/results.md."""
    install(session)
    for name in ("metrics", "evaluation", "inference", "training"):
        session.run("python", f"tests/benchmarks/{name}.py", *session.posargs, env=OFFLINE)
