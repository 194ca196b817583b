"""Which files are images: endings, first bytes, and the Pillow formats that are decoded."""

import errno
import functools
import importlib.util
import os
import re
import stat

from PIL import Image

# Pillow's names. It knows more; some are programs, such as EPS, which it hands to Ghostscript.
_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "AVIF", "PPM")
_ENDINGS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".avif"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
HEIC = frozenset({".heic", ".heif"})  # read where pillow_heif is installed
_ENDINGS_WITH_HEIC = _ENDINGS | HEIC
# Endings of images that are not read, and of files that may hold some.
PERHAPS_IMAGES = HEIC | frozenset(
    f".{name}"
    for line in (
        "7z ai apng arw bz2 cr2 cr3 czi dcm dds dib dicom dng emf eps exr fit fits gz h5",
        "hdf5 hdr hif icns ico j2c j2k jp2 jpf jpx jxl jxr lif lsm mat mpo mrxs ndpi nef",
        "nii npy npz nrrd nrw orf pcx pdf pef pfm ps psb psd qoi raf rar raw rw2 sgi sr2",
        "srw svg svs tar tfrecord tga tgz vsi wdp wmf xcf xpm zip",
    )
    for name in line.split()
)
_FIRST_BYTES = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|RIFF....WEBP|BM....\0\0\0\0"
    rb"|(?:II\*\0|MM\0\*)(?!....CR)|....ftyp(?:avif|avis)|P[1-6]\s+[\d#]",
    re.DOTALL,
)
_FIRST_BYTES_HEIC = re.compile(rb"....ftyp(?:heic|heix|heim|heis|mif1)", re.DOTALL)


@functools.cache
def reads_heic() -> bool:
    """Returns whether the package that decodes HEIC is installed."""
    return importlib.util.find_spec("pillow_heif") is not None


@functools.cache
def formats() -> tuple[str, ...]:
    """Returns the formats that are decoded, by Pillow's names; nothing is decoded as another."""
    Image.init()
    if reads_heic():
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in (*_FORMATS, "HEIF") if name in Image.OPEN)


def endings() -> frozenset[str]:
    """Returns the endings of the files that are read, in lower case with their dot."""
    return _ENDINGS_WITH_HEIC if reads_heic() else _ENDINGS


def ending(name: str) -> str:
    """Returns a file name's ending in lower case, '' for none.

    >>> ending("a/b.tar.GZ"), ending("IMG_0001"), ending("a.b/c")
    ('.gz', '', '')
    """
    # As os.path.splitext, which takes three times as long: of a million files most of a second.
    stem, dot, last = name.rpartition(".")
    if not dot or os.sep in last or not stem.rpartition(os.sep)[2].strip("."):
        return ""
    return f".{last.lower()}"


def is_image(path: str) -> bool:
    """Returns whether a regular file is to be read: by its ending, or without one by its content.

    A file that cannot be opened is taken for an image, so that reading it tells why.
    """
    found = ending(path)
    if found:
        return found in endings()
    try:
        with open(path, "rb") as file:
            first = file.read(16)
    except OSError:
        return True
    return bool(_FIRST_BYTES.match(first) or (reads_heic() and _FIRST_BYTES_HEIC.match(first)))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Returns a file's content.

    Raises:
      OSError: it cannot be read, or is a pipe, socket or device, which might never end.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a regular file", os.fspath(path))
    with open(path, "rb") as file:
        return file.read()
