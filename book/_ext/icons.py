"""The few icons that the pages use, as fonts of 3 kB in place of FontAwesome's 156 kB and 118 kB.

The rules have a `unicode-range`: an icon that is not listed here still draws, from the whole font that the theme brings.
"""

from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

FOLDER = "vendor/fontawesome/webfonts"  # under _static, put there by pydata-sphinx-theme
FONTS = {  # the file's name there, and the family, the weight and the icons of it
    "fa-solid-900": (
        "Font Awesome 6 Free",
        900,
        (
            "angle-down angle-left angle-right arrow-up bars bell circle-check circle-exclamation circle-half-stroke "
            "circle-info circle-xmark code download file file-pdf lightbulb link list magnifying-glass moon pencil rocket "
            "sun triangle-exclamation"
        ),
    ),
    "fa-brands-400": ("Font Awesome 6 Brands", 400, "github gitlab"),
}
PRIVATE_USE = range(0xE000, 0xF900)  # style sheets draw icons by these codes; the fonts have some under others too
RULE = """@font-face {{
  font-display: block;
  font-family: "{family}";
  font-weight: {weight};
  src: url({name}.woff) format("woff");
  unicode-range: {codes};
}}
"""


def write_icons(app, exception):
    """Write the small fonts and their rules into the built site."""
    static = Path(app.outdir) / "_static"
    if exception or not (static / FOLDER).exists():
        return
    rules = []
    for name, (family, weight, icons) in FONTS.items():
        font = TTFont(static / FOLDER / f"{name}.ttf", recalcTimestamp=False)
        codes = [code for code, icon in font.getBestCmap().items() if icon in icons.split() and code in PRIVATE_USE]
        subsetter = subset.Subsetter()
        subsetter.populate(unicodes=codes)
        subsetter.subset(font)
        font.flavor = "woff"
        font.save(static / f"{name}.woff")
        listed = ", ".join(f"U+{code:X}" for code in sorted(codes))
        rules.append(RULE.format(family=family, weight=weight, name=name, codes=listed))
    (static / "icons.css").write_text("\n".join(rules), encoding="utf-8")


def setup(app):
    """Register the fonts."""
    app.add_css_file("icons.css")
    app.connect("build-finished", write_icons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
