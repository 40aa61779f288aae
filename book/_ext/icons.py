"""The few icons that the pages use, as a font of 3 kB in place of FontAwesome's 156 kB.

The rule has a `unicode-range`: an icon that is not listed here still draws, from the whole font that the theme brings.
"""

from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FONT = "vendor/fontawesome/webfonts/fa-solid-900.ttf"  # under _static, put there by pydata-sphinx-theme
ICONS = (
    "angle-down angle-left angle-right arrow-up bars bell circle-check circle-exclamation circle-half-stroke "
    "circle-info circle-xmark code download file file-pdf lightbulb link list magnifying-glass moon pencil rocket sun "
    "triangle-exclamation"
)
PRIVATE_USE = range(0xE000, 0xF900)  # style sheets draw icons by these codes; the font has some under others too
RULE = """@font-face {{
  font-display: block;
  font-family: "Font Awesome 6 Free";
  font-weight: 900;
  src: url(icons.woff) format("woff");
  unicode-range: {range};
}}
"""


def write_icons(app, exception):
    """Write the font and its rule into the built site."""
    static = Path(app.outdir) / "_static"
    if exception or not (static / FONT).exists():
        return
    font = TTFont(static / FONT, recalcTimestamp=False)
    codes = [code for code, name in font.getBestCmap().items() if name in ICONS.split() and code in PRIVATE_USE]
    subsetter = subset.Subsetter()
    subsetter.populate(unicodes=codes)
    subsetter.subset(font)
    font.flavor = "woff"
    font.save(static / "icons.woff")
    (static / "icons.css").write_text(RULE.format(range=", ".join(f"U+{code:X}" for code in sorted(codes))))


def setup(app):
    """Register the font."""
    app.add_css_file("icons.css")
    app.connect("build-finished", write_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
