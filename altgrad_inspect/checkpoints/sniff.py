"""What a file is, from its first bytes, when it is not a safetensors file."""

from typing import Final

NUM_SNIFFED_BYTES: Final = 1024

_PICKLE: Final = (
    "is a pickle (PyTorch .pt, .pth or .bin), which can run code and is never opened",
    "where you trust it, load it with PyTorch and save it with safetensors.torch.save_file",
)
_ERROR_PAGE: Final = (
    "is a web page, not a checkpoint",
    "download it again and look at the page: it usually names the error",
)
_SIGNATURES: Final = (
    (
        b"version https://git-lfs",
        "is a Git-LFS pointer, not the file itself",
        "run `git lfs pull` beside it",
    ),
    (b"GGUF", "is a GGUF file", "convert the original checkpoint to safetensors"),
    (b"\x93NUMPY", "is a numpy array", "save it with safetensors.numpy.save_file"),
    (b"\x1f\x8b", "is compressed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd", "unpack it first"),
    (b"\x89HDF", "is an HDF5 file", "convert it to safetensors"),
    (b"PAR1", "is a Parquet file", "name the directory that holds the checkpoints"),
)


def sniff_content(head: bytes) -> tuple[str, str] | None:
    """Say what a file that is no safetensors file seems to be.

    Args:
        head: Its first bytes, up to `NUM_SNIFFED_BYTES`.

    Returns:
        What it is and what to do about it; None if the bytes say nothing, or if they look
        like the start of a safetensors file (whose length may look like anything).
    """
    if head[8:9] == b"{":
        return None
    for signature, what, advice in _SIGNATURES:
        if head.startswith(signature):
            return what, advice
    if head.startswith(b"PK\x03\x04"):
        return _PICKLE if b"data.pkl" in head else _zip_archive(head)
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return _PICKLE
    return _sniff_text(head)


def _zip_archive(head: bytes) -> tuple[str, str]:
    if b".npy" in head:
        return "is a numpy archive (.npz)", "save its arrays with safetensors.numpy.save_file"
    return "is a zip archive", "unpack it first"


def _sniff_text(head: bytes) -> tuple[str, str] | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return _ERROR_PAGE
    if start.startswith((b"{", b"[")) and head[:8].isascii() and b"\0" not in head[:8]:
        return "is JSON text, not a checkpoint", "download it again: it may be an error message"
    if head and not head.strip(b"\0"):
        return "starts with nothing but zeros", "it is still being written, or was never filled"
    return None
