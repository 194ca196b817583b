import dataclasses
import io
import struct
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tl.data import transforms
from tl.errors import UserError
from tl.weights.spec import Preprocessing

PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def encode(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


class TestDecode:
    def test_lossless_formats_are_exact(self):
        pixels = noise(5, 7)
        for format, options in (("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True})):
            decoded = transforms.decode(encode(Image.fromarray(pixels), format, **options))
            assert decoded.dtype == np.uint8 and np.array_equal(decoded, pixels), format

    def test_jpeg_is_close(self):
        smooth = np.linspace(0, 255, 64, dtype=np.uint8)[None, :, None] * np.ones((32, 1, 3))
        pixels = smooth.astype(np.uint8)
        decoded = transforms.decode(encode(Image.fromarray(pixels), "JPEG", quality=95))
        assert np.abs(decoded.astype(int) - pixels).max() <= 4

    def test_grey_becomes_three_equal_channels(self):
        grey = noise(4, 6)[..., 0]
        decoded = transforms.decode(encode(Image.fromarray(grey)))
        assert np.array_equal(decoded, np.repeat(grey[..., None], 3, 2))

    def test_sixteen_bit_grey_keeps_the_high_byte(self):
        deep = np.array([[0, 255, 256, 65535]], np.uint16)
        decoded = transforms.decode(encode(Image.fromarray(deep)))
        assert decoded[0, :, 0].tolist() == [0, 0, 1, 255]

    def test_bilevel(self):
        image = Image.fromarray(np.array([[False, True]]))
        assert transforms.decode(encode(image))[0, :, 1].tolist() == [0, 255]

    def test_transparency_lies_on_white(self):
        rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], np.uint8)
        decoded = transforms.decode(encode(Image.fromarray(rgba)))
        assert decoded[0].tolist() == [[10, 20, 30], [255, 255, 255], [204, 204, 204]]
        la = np.array([[[90, 255], [90, 0]]], np.uint8)
        assert transforms.decode(encode(Image.fromarray(la)))[0, :, 0].tolist() == [90, 255]

    def test_palette_with_a_transparent_entry(self):
        image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
        image.putpalette([200, 0, 0, 0, 200, 0])
        decoded = transforms.decode(encode(image, transparency=1))
        assert decoded[0].tolist() == [[200, 0, 0], [255, 255, 255]]

    def test_cmyk(self):
        image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
        red = transforms.decode(encode(image, "JPEG", quality=100))[4, 4]
        assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 4

    def test_the_first_frame_of_an_animation(self):
        frames = [Image.new("RGB", (3, 2), colour) for colour in ("red", "blue")]
        data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert transforms.decode(data)[0, 0].tolist() == [255, 0, 0]

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_orientation(self, orientation):
        upright = np.zeros((16, 32, 3), np.uint8)
        upright[:8, :16] = 255  # the top left quarter is white
        # How a camera held in each orientation stores the upright scene.
        stored = {
            1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
            5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1),
            7: np.rot90(upright, 2).transpose(1, 0, 2), 8: np.rot90(upright, -1),
        }[orientation]  # fmt: skip
        exif = Image.Exif()
        exif[0x0112] = orientation
        image = Image.fromarray(np.ascontiguousarray(stored))
        assert np.array_equal(transforms.decode(encode(image, exif=exif)), upright)

    def test_malformed_exif_does_not_make_an_image_unreadable(self):
        image = Image.fromarray(noise(5, 7))
        data = encode(image, exif=b"no tiff header")
        assert np.array_equal(transforms.decode(data), np.asarray(image))

    def test_broken_bytes(self):
        jpeg = encode(Image.fromarray(noise(64, 64)), "JPEG")
        png = encode(Image.fromarray(noise(64, 64)))
        for data in (b"", b"hello", jpeg[: len(jpeg) // 2], png[: len(png) // 2], png[:20]):
            with pytest.raises(transforms.UndecodableImage):
                transforms.decode(data)

    def test_a_decompression_bomb_is_refused_before_it_is_inflated(self):
        def chunk(kind, body):
            return struct.pack(">I", len(body)) + kind + body + struct.pack(
                ">I", zlib.crc32(kind + body)
            )  # fmt: skip

        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))
        with pytest.raises(transforms.UndecodableImage, match="DecompressionBomb"):
            transforms.decode(data)


def drafting(size, **fields):
    return Preprocessing(size=size, draft=True, **fields)


class TestDraft:
    """What is decoded has at least twice the pixels, along each axis, of what it is resized to."""

    @pytest.mark.parametrize(
        ("shape", "p", "expected"),
        [
            (
                (130, 127),
                drafting(8, geometry="whole"),
                (17, 16),
            ),  # 127 / 8 rounds up to 16 = 2 * 8
            ((127, 120), drafting(8, geometry="whole"), (32, 30)),  # 120 / 8 = 15 is too small
            ((400, 31), drafting(8, geometry="whole"), (200, 16)),
            ((400, 30), drafting(8, geometry="whole"), (400, 30)),
            ((16, 16), drafting(8, geometry="whole"), (16, 16)),
            ((1, 1), drafting(8, geometry="whole"), (1, 1)),
            ((130, 127), drafting(7), (17, 16)),  # 7 / 0.875 = 8 is the shorter side
            ((130, 127), drafting(8), (33, 32)),  # 8 / 0.875 = 9, and 2 * 9 are more than 16
            ((256, 250), drafting(8, geometry="crop_resize", crop_pct=0.5), (32, 32)),
            ((249, 248), drafting(8, geometry="crop_resize", crop_pct=0.5), (63, 62)),
        ],
    )
    def test_by_hand(self, shape, p, expected):
        data = encode(Image.fromarray(noise(*shape)), "JPEG")
        assert transforms.decode(data, p).shape[:2] == expected
        whole = transforms.decode(data)
        assert whole.shape[:2] == shape
        undrafted = transforms.decode(data, dataclasses.replace(p, draft=False))
        assert np.array_equal(undrafted, whole)

    def test_pillow_takes_the_scale_that_was_planned(self):
        p = drafting(2, geometry="whole")
        for height in (3, 4, 7, 8, 9, 15, 17, 25, 31, 33):
            for width in (4, 7, 15, 29, 63, 65):
                data = encode(Image.fromarray(noise(height, width)), "JPEG")
                sides = [(-(-height // s), -(-width // s)) for s in (8, 4, 2, 1)]
                expected = next((s for s in sides if min(s) >= 4), (height, width))
                assert transforms.decode(data, p).shape[:2] == expected, (height, width)

    def test_it_is_the_same_picture(self):
        ramp = np.linspace(0, 255, 320)[None, :, None] * np.linspace(0.3, 1, 240)[:, None, None]
        picture = Image.fromarray((ramp * [1.0, 0.7, 0.4]).astype(np.uint8))
        for geometry in transforms.GEOMETRIES:
            p = drafting(24, geometry=geometry)
            for options in ({}, {"progressive": True}, {"subsampling": 0}):
                data = encode(picture, "JPEG", quality=95, **options)
                drafted = transforms.decode(data, p)
                assert max(drafted.shape) <= 160
                seen, whole = (
                    transforms.host_transform(image, p).astype(int)
                    for image in (drafted, transforms.decode(data))
                )
                assert np.abs(seen - whole).max() <= 3

    def test_exif_turns_the_small_image(self):
        picture = Image.fromarray(noise(200, 120))
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees, clockwise
        p = drafting(8, geometry="whole")
        turned = transforms.decode(encode(picture, "JPEG", exif=exif), p)
        plain = transforms.decode(encode(picture, "JPEG"), p)
        assert plain.shape[:2] == (50, 30) and turned.shape[:2] == (30, 50)
        assert np.array_equal(turned, np.rot90(plain, -1))

    def test_grey_and_cmyk(self):
        p = drafting(8, geometry="whole")
        grey = transforms.decode(encode(Image.new("L", (128, 128), 90), "JPEG"), p)
        assert grey.shape == (16, 16, 3) and (grey == 90).all()
        image = Image.new("CMYK", (128, 128), (0, 255, 255, 0))
        red = transforms.decode(encode(image, "JPEG", quality=100), p)
        assert red.shape == (16, 16, 3)
        assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 4

    @pytest.mark.parametrize("format", ["PNG", "BMP", "WEBP", "TIFF", "GIF"])
    def test_other_formats_come_whole(self, format):
        data = encode(Image.fromarray(noise(128, 120)), format)
        assert transforms.decode(data, drafting(4)).shape == (128, 120, 3)

    def test_half_a_file_is_an_error_at_every_scale(self):
        data = encode(Image.fromarray(noise(128, 128)), "JPEG")
        with pytest.raises(transforms.UndecodableImage, match="truncated"):
            transforms.decode(data[: len(data) // 2], drafting(4))


class TestHostTransform:
    """Against plain Pillow calls; a square image is resized by one call, in any Pillow."""

    def test_torchvisions_rules_by_hand(self):
        # Shorter side 300 -> 256; the long side int(256 * 401 / 300) = int(342.19) = 342;
        # offset round((342 - 224) / 2) = 59, and 16 for the other side.
        image = noise(401, 300)
        resized = Image.fromarray(image).resize((256, 342), Image.Resampling.BILINEAR)
        expected = np.asarray(resized.crop((16, 59, 240, 283)))
        assert np.array_equal(transforms.host_transform(image, PLAIN), expected)

    def test_a_centre_between_two_pixels_rounds_to_even(self):
        # 224 -> 229: (229 - 224) / 2 = 2.5 becomes 2.
        p = dataclasses.replace(PLAIN, crop_pct=224 / 229)
        resized = Image.fromarray(noise(100, 100)).resize((229, 229), Image.Resampling.BILINEAR)
        expected = np.asarray(resized.crop((2, 2, 226, 226)))
        assert np.array_equal(transforms.host_transform(noise(100, 100), p), expected)

    @pytest.mark.parametrize("side", [93, 118, 177, 232, 256])
    def test_a_crop_pct_written_as_a_quotient_gives_its_denominator(self, side):
        p = dataclasses.replace(PLAIN, size=64, crop_pct=64 / side)
        resized = Image.fromarray(noise(80, 80)).resize((side, side), Image.Resampling.BILINEAR)
        offset = round((side - 64) / 2)
        expected = np.asarray(resized)[offset : offset + 64, offset : offset + 64]
        assert np.array_equal(transforms.host_transform(noise(80, 80), p), expected)

    def test_timm_floors_the_resized_side(self):
        # 224 / 0.95 = 235.8 -> 235.
        p = dataclasses.replace(PLAIN, crop_pct=0.95, interpolation="bicubic")
        resized = Image.fromarray(noise(90, 90)).resize((235, 235), Image.Resampling.BICUBIC)
        expected = np.asarray(resized)[6:230, 6:230]  # 5.5 rounds to 6
        assert np.array_equal(transforms.host_transform(noise(90, 90), p), expected)

    def test_efficientnet_crops_first(self):
        # int(0.875 * 101) = 88; offsets (301 - 88 + 1) // 2 = 107 and (101 - 88 + 1) // 2 = 7.
        p = dataclasses.replace(PLAIN, geometry="crop_resize", interpolation="bicubic")
        crop = Image.fromarray(noise(301, 101)[107:195, 7:95])
        expected = np.asarray(crop.resize((224, 224), Image.Resampling.BICUBIC))
        assert np.array_equal(transforms.host_transform(noise(301, 101), p), expected)

    def test_the_whole_image_is_squashed(self):
        p = dataclasses.replace(PLAIN, geometry="whole", interpolation="lanczos", size=50)
        filter = Image.Resampling.LANCZOS
        expected = Image.fromarray(noise(30, 90)).resize((50, 30), filter).resize((50, 50), filter)
        assert np.array_equal(transforms.host_transform(noise(30, 90), p), np.asarray(expected))

    @pytest.mark.parametrize("geometry", transforms.GEOMETRIES)
    def test_one_pixel(self, geometry):
        p = dataclasses.replace(PLAIN, geometry=geometry, size=5)
        result = transforms.host_transform(np.full((1, 1, 3), 77, np.uint8), p)
        assert result.shape == (5, 5, 3) and (result == 77).all()


# (size asked for, height, width): enlarged, reduced, odd, one way up and the other down, extreme.
SIZES = [(64, 8, 8), (65, 33, 47), (9, 47, 33), (40, 101, 57), (20, 1, 7)]


class TestDeviceTransform:
    @pytest.mark.parametrize("interpolation", transforms.INTERPOLATIONS)
    @pytest.mark.parametrize("geometry", transforms.GEOMETRIES)
    def test_the_grey_levels_are_pillows(self, geometry, interpolation):
        for size, height, width in SIZES:
            p = dataclasses.replace(
                PLAIN, size=size, geometry=geometry, interpolation=interpolation
            )
            images = noise(2, height, width, seed=size)
            host = np.stack([transforms.host_transform(image, p) for image in images])
            device = np.asarray(transforms.device_transform(jnp.asarray(images), p))
            assert np.array_equal(device, host), (size, height, width)

    def test_cifar_and_a_photograph_at_full_size(self):
        for shape, interpolation in (((32, 32), "bicubic"), ((375, 500), "bilinear")):
            p = dataclasses.replace(PLAIN, interpolation=interpolation)
            images = noise(3, *shape)
            host = np.stack([transforms.host_transform(image, p) for image in images])
            device = jax.jit(lambda x, p=p: transforms.device_transform(x, p))(images)
            assert np.array_equal(np.asarray(device), host)

    def test_normalisation_by_hand(self):
        p = Preprocessing(size=1, mean=(10.0, 20.0, 30.0), std=(2.0, 4.0, 8.0))
        pixel = jnp.array([[[[12, 28, 40]]]], jnp.uint8)
        assert transforms.normalise(pixel, p).ravel().tolist() == [1.0, 2.0, 1.25]
        # mean and std are given in the order of `channels`.
        bgr = dataclasses.replace(p, channels="BGR")
        assert transforms.normalise(pixel, bgr).ravel().tolist() == [15.0, 2.0, -2.25]

    def test_images_of_the_networks_size_are_cropped_all_the_same(self):
        p = dataclasses.replace(PLAIN, size=16, geometry="crop_resize", crop_pct=0.5)
        images = noise(1, 16, 16)
        device = np.asarray(transforms.device_transform(jnp.asarray(images), p))
        assert np.array_equal(device[0], transforms.host_transform(images[0], p))
        whole = dataclasses.replace(p, geometry="whole")
        assert np.array_equal(
            np.asarray(transforms.device_transform(jnp.asarray(images), whole)), images
        )

    def test_the_cast_comes_last(self):
        images, p = jnp.asarray(noise(1, 8, 8)), Preprocessing(size=20)
        exact = transforms.device_transform(images, p)
        half = transforms.device_transform(images, p, jnp.bfloat16)
        assert half.dtype == jnp.bfloat16
        assert np.array_equal(np.asarray(half), np.asarray(exact.astype(jnp.bfloat16)))

    def test_no_interpolation_is_another(self):
        results = [
            transforms.host_transform(noise(40, 40), dataclasses.replace(PLAIN, interpolation=i))
            for i in transforms.INTERPOLATIONS
        ]
        for i, one in enumerate(results):
            assert all(np.abs(one.astype(int) - other).max() > 5 for other in results[:i])


class TestOverrides:
    def test_given_fields_replace_and_others_stay(self):
        p = transforms.Overrides(size=64, geometry="whole", crop_pct=0, interpolation="").of(PLAIN)
        assert p == dataclasses.replace(PLAIN, size=64, geometry="whole")
        assert transforms.Overrides().of(PLAIN) == PLAIN
        drafted = dataclasses.replace(PLAIN, draft=True)
        assert transforms.Overrides(draft=True).of(PLAIN) == drafted
        assert transforms.Overrides().of(drafted) == drafted

    @pytest.mark.parametrize(
        ("override", "text"),
        [
            ({"size": -3}, "preprocess.size: expected at least 1 pixel, got -3"),
            ({"crop_pct": 1.5}, r"preprocess.crop_pct: expected a share in \(0, 1\], got 1.5"),
            ({"geometry": "croop_resize"}, "no geometry 'croop_resize'.*'crop_resize'"),
            ({"interpolation": "cubic"}, "no interpolation 'cubic'.*'bicubic'"),
        ],
    )
    def test_mistakes(self, override, text):
        with pytest.raises(UserError, match=text):
            transforms.Overrides(**override)


class TestHostAndDevice:
    @pytest.mark.parametrize("geometry", transforms.GEOMETRIES)
    def test_the_networks_input_is_the_same_on_either_way(self, geometry):
        p = Preprocessing(size=20, geometry=geometry, channels="BGR")
        images = noise(2, 33, 47)
        transform, prepare = transforms.host_and_device(None, p)
        resized = np.stack([transform(image) for image in images])
        assert resized.shape == (2, 20, 20, 3) and resized.dtype == np.uint8
        on_host = np.asarray(prepare(jnp.asarray(resized), p))
        nothing, prepare = transforms.host_and_device((33, 47, 3), p)
        assert nothing is None
        assert np.array_equal(np.asarray(prepare(jnp.asarray(images), p)), on_host)
        # What the channels are called is seen to once.
        expected = (resized[..., ::-1] - np.float32(p.mean)) / np.float32(p.std)
        assert np.allclose(on_host, expected, atol=1e-6)

    def test_images_of_many_sizes_leave_the_host_alike(self):
        transform, _ = transforms.host_and_device(None, dataclasses.replace(PLAIN, size=8))
        assert {transform(noise(*shape)).shape for shape in ((3, 5), (90, 31))} == {(8, 8, 3)}
