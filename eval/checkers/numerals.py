"""Reading the numbers of an answer, exactly."""

from __future__ import annotations

import unicodedata
from fractions import Fraction
from math import prod

import regex

from eval.checkers.matching import LETTER

LONGEST = 1000  # digits; an answer that runs away in digits must not stall
TOLERANCE = Fraction(1, 10**6)
LARGEST_GAP = Fraction(1, 1000)

# What NFKC would glue to the digits beside it: 1½ would be 11/2, 10⁶ 106, ①5 15, and 3，100 3100.
_GLUED = regex.compile(
    r"(?P<power>[⁺⁻]?[⁰¹²³⁴-⁹]+)|(?P<part>[¼-¾⅐-⅞])|(?P<comma>，)|\p{No}"
    r"|\\[dt]?frac\s*\{\s*(?P<above>[0-9]+)\s*\}\s*\{\s*(?P<below>[0-9]+)\s*\}"
)
_SCALES = {"十": 10, "百": 100, "千": 10**3, "万": 10**4, "亿": 10**8}
_SCALES |= {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_CURRENCIES = "USD|US|RMB|CNY|EUR|GBP|JPY|HKD|TWD|AUD|CAD|CHF|INR|KRW|Rs"
# A sign belongs to the number unless something stands before it: "5-3" ends on 3, "= -3" on -3.
_NUMBER = regex.compile(
    rf"""
    (?P<skip>
        (?<!{LETTER})(?!(?:{_CURRENCIES})[0-9]){LETTER}+[0-9]+(?:[.,][0-9]+)*  # m2, CO2, GPT4.1
      | [0-9]+(?:/[0-9]+){{2,}}                                                # a date
      | \^\{{?\(?[-+−–]?[0-9]+\)?\}}?                                          # of a unit: m^2
    )
  | (?P<sign>(?<![A-Za-z0-9)])[-+−–])?
    (?P<body>
        [0-9]{{1,3}}(?:,[0-9]{{3}})+(?![0-9])(?:\.[0-9]+)?
      | (?<![0-9][ ]|[0-9.,])(?:[1-9][0-9]?(?:[ ][0-9]{{3}}){{2,}}
        | [1-9][0-9]{{0,2}}(?:[ ][0-9]{{3}})*[ ]000)
        (?![0-9]|[ ][0-9]|,[0-9])(?:\.[0-9]+)?                                 # 1 000 000
      | (?:[0-9]+(?:\.[0-9]+)?|(?<![A-Za-z0-9])\.[0-9]+)(?:e[-+]?[0-9]+)?
    )
    (?: (?:[ ](?P<above>[0-9]+))?[/⁄](?P<below>[0-9]+)(?![0-9/]|[.,][0-9])     # 3/4, 1 3/4
      | (?P<ten>\s?(?:[x×*·]|\\times|\\cdot)\s?10)?
        (?:\^|(?<!\*\*[0-9.,]*)\*\*(?=[-+−–]?[0-9])|[ ]\*\*[ ])
        \{{?\(?(?P<power>[-+−–]?[0-9]+)\)?\}}?                                 # 2^10, 3 × 10^6
    )?
    (?:\s?(?P<scale>
        [十百千]?[万亿]+|(?<=[万亿][0-9])[千百]
      | 百(?![分度帕])                                                           # 百帕: a unit
      | 千(?![克米瓦卡焦帕赫伏安欧升牛字比周斤])                               # 千克: a unit
      | (?:thousand|million|billion|trillion)\b
    ))?
    """,
    regex.V1 | regex.VERBOSE | regex.IGNORECASE,
)


def numbers(text: str) -> list[Fraction | None]:
    """The numbers in a text in order; None for one too large to be meant.

    Signs, thousands separators, decimals, exponents, powers, simple and mixed fractions and the
    scales 百, 千, 万, 亿, thousand, million … are understood. Digits of a name or unit (CO2, m²)
    and dates with slashes are no numbers; Chinese numerals (十二) are not read.
    """
    found: list[Fraction | None] = []
    end, scale = -1, 1
    for match in _NUMBER.finditer(unicodedata.normalize("NFKC", _GLUED.sub(_apart, text))):
        if match["skip"]:
            continue
        number, last = _value(match), found[-1] if found else None
        if number is not None and last is not None and match.start() == end and number < scale:
            if match["body"] in "123456789" and not match["scale"]:  # 3万5 is 35000
                number *= scale // 10
            found[-1] = last + number if last >= 0 else last - number  # 3亿5000万 is one number
        else:
            found.append(number)
        end = match.end() if match["scale"] and not match["scale"].isascii() else -1
        scale = _scale(match["scale"])
    return found


def same_number(one: Fraction, other: Fraction) -> bool:
    """Whether integers are equal, and other numbers within a millionth (and 0.001)."""
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= min(TOLERANCE * max(abs(one), abs(other)), LARGEST_GAP)


def _apart(match: regex.Match[str]) -> str:
    after_digit = match.start() > 0 and match.string[match.start() - 1].isdigit()
    if match["power"]:
        return "^" + match["power"]
    if match["part"] or match["above"]:
        fraction = match["part"] or f"{match['above']}/{match['below']}"
        return f" {fraction}" if after_digit else fraction
    return ", " if match["comma"] else " "


def _scale(name: str | None) -> int:
    if not name:
        return 1
    return _SCALES.get(name.lower()) or prod(_SCALES[character] for character in name)


def _value(match: regex.Match[str]) -> Fraction | None:
    body = match["body"].replace(",", "").replace(" ", "").lower()
    digits, _, exponent = body.partition("e")
    if len(digits) > LONGEST or len(exponent) > 4 or abs(int(exponent or 0)) > LONGEST:
        return None
    number = Fraction(body)
    if match["below"]:
        above, below = match["above"] or "", match["below"]
        if len(above + below) > LONGEST or int(below) == 0:
            return None
        part = Fraction(int(below))
        number = number + int(above) / part if above else number / part
    if match["power"]:
        power = match["power"].replace("−", "-").replace("–", "-")
        if len(power) > 4 or abs(int(power)) * len(digits) > LONGEST:
            return None
        if not match["ten"] and number == 0:
            return None if int(power) <= 0 else number
        number = number * Fraction(10) ** int(power) if match["ten"] else number ** int(power)
    number *= _scale(match["scale"])
    return -number if match["sign"] in ("-", "−", "–") else number
