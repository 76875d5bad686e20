"""From the bytes that a server sent to pixels: only what was asked for, and no bombs."""

from __future__ import annotations

import io

import numpy as np

from promptlab.models.http.service import Answer, RefusedError

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000  # 8,000 × 8,000 px: a larger picture is refused by its header


def decode(answer: Answer, size: tuple[int, int] | None) -> np.ndarray:
    """Return uint8 pixels [height, width, 3]; raises RefusedError for another size or format.

    What is transparent becomes white.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(answer.body), formats=FORMATS) as picture:
            found, width, height = str(picture.format), *picture.size
            if answer.format and found.lower() != answer.format.lower().replace("jpg", "jpeg"):
                raise RefusedError(f"the server sent {found}, asked for {answer.format}")
            if size is not None and (width, height) != size:
                raise RefusedError(
                    f"the server drew {width} × {height} px, asked for {size[0]} × {size[1]} px"
                )
            if width * height > MAX_PIXELS:
                raise RefusedError(f"the image has {width} × {height} px, more than {MAX_PIXELS:,}")
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")  # type: ignore[assignment]
                ground = Image.new("RGBA", picture.size, "white")
                picture = Image.alpha_composite(ground, picture)  # type: ignore[assignment]
            return np.asarray(picture.convert("RGB"))
    except RefusedError:
        raise
    except Exception as error:  # whatever a decoder raises for hostile bytes
        raise RefusedError(f"the server sent no image that can be read ({error})") from None
