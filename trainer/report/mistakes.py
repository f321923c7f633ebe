"""The section of a run's page with its most confident mistakes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from html import escape

from trainer.records.details import Mistake
from trainer.records.record import Record

PNG = b"\x89PNG\r\n\x1a\n"


def section(record: Record) -> str:
    """Return the mistakes of the test; an empty string if samples are not images."""
    if record.details.mistakes is None:
        return ""
    return pictures(record.details.mistakes) or "<p>The test has no mistakes.</p>"


def pictures(mistakes: Sequence[Mistake], style: str = "mistakes") -> str:
    """Return a list of pictures with predicted and true classes; an empty string if no picture is a PNG in base64."""
    items = []
    for mistake in mistakes:
        image = _image(mistake.image)
        if image is not None:
            true, predicted = escape(mistake.true), escape(mistake.predicted)
            items.append(
                f'<li><figure><img{image} alt="{true}, taken for {predicted}"><figcaption><b>{predicted}</b> '
                f"{mistake.chance:.1%}<br>true: <b>{true}</b></figcaption></figure></li>"
            )
    return f'<ul class="{style}">{"".join(items)}</ul>' if items else ""


def _image(text: str) -> str | None:
    """Return the class and source of an image element; None if the text is no PNG in base64."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data.startswith(PNG) or len(data) < 24:
        return None
    fine = ' class="fine"' if int.from_bytes(data[16:20]) >= 64 else ""  # the width, from the header
    return f'{fine} src="data:image/png;base64,{base64.b64encode(data).decode()}"'
