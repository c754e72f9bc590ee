"""Reading the numbers of plain text exactly; the checker of numbers."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from math import prod

import regex

from eval.checkers.latex import without_latex
from eval.checkers.matching import LETTER
from eval.checkers.registry import accepted, checker
from eval.schema.case import Checker
from nlirg.errors import InputError

LONGEST = 1000  # digits; an answer that runs away in digits must not stall
ENDING = 10_000  # characters of an answer that are read
TOLERANCE = Fraction(1, 10**6)
LARGEST_GAP = Fraction(1, 1000)

# What NFKC would glue to the digits beside it: 1½ would be 11/2, 10⁶ 106, ①5 15, and 3，100 3100.
_GLUED = regex.compile(r"(?P<power>[⁺⁻]?[⁰¹²³⁴-⁹]+)|(?P<part>[¼-¾⅐-⅞])|(?P<comma>，)|\p{No}")
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
        [1-9][0-9]{{0,2}}(?:(?:,[0-9]{{3}})+|(?:[ ][0-9]{{3}})+)(?![0-9])(?:\.[0-9]+)?
      | (?<![0-9.,(\[])[0-9]+,[0-9]+(?![0-9.]|,[0-9])                          # 12,5
      | (?:[0-9]+(?:\.[0-9]+)?|(?<![A-Za-z0-9])\.[0-9]+)(?:e[-+]?[0-9]+)?
    )
    (?: (?:[ ](?P<above>[0-9]+))?[/⁄](?P<below>[0-9]+)(?![0-9/]|[.,][0-9])     # 3/4, 1 3/4
      | (?P<ten>\s?(?:[x×*·]|\\times|\\cdot)\s?10)?
        (?:\^|\*\*(?<!\*\*[0-9.,]*\*\*)(?=[-+−–]?[0-9])|[ ]\*\*[ ])
        \{{?\(?(?P<power>[-+−–]?[0-9]+)\)?\}}?                                 # 2^10, 3 × 10^6
    )?
    (?:\s?(?P<scale>
        [十百千]?[万亿]+|(?<=[万亿][0-9])[千百]
      | [百千](?![分度帕克米瓦卡焦赫伏安欧升牛字比周斤])                        # 千克: a unit
      | (?:thousand|million|billion|trillion)\b
    ))?
    (?P<percent>\s?(?:%|percent\b|per\ cent\b))?
    """,
    regex.V1 | regex.VERBOSE | regex.IGNORECASE,
)
_ROUNDED = regex.compile(r"\s*(?:≈|≒|约等于|约为)\s*")


@dataclass(frozen=True)
class Number:
    """A number as read; 50% has the value 50. `rounded`: it approximates the one before it."""

    value: Fraction
    percent: bool = False
    rounded: bool = False


@checker(
    "numeric",
    "its last number equals a value (or the last number of the reference): integers exactly, "
    "others within a millionth",
    values="one number each, or none",
)
def _numeric(checker: Checker, answer: str, reference: str) -> float:
    wanted = [_wanted(value, bool(checker.values)) for value in accepted(checker, reference)]
    return float(any(same_number(a, b) for a in last_numbers(answer) for b in wanted))


def _wanted(value: str, alone: bool) -> Number:
    """Return the number of a value, or the last of a reference, which is read like an answer."""
    read = _read(value)
    if alone and len(read) > 1:
        raise InputError(f"{value!r} holds {len(read)} numbers; give each as a value of its own")
    if not read:
        raise InputError(f"{value!r} holds no number")
    if read[-1] is None:
        raise InputError(f"{value!r}: the number is too large")
    return read[-1]


def last_numbers(answer: str) -> list[Number]:
    """Return the number that an answer ends on, and the one before it that it approximates."""
    read = _read(answer)
    last = read[-1] if read else None
    kept = read[-2:] if last is not None and last.rounded else read[-1:]
    return [number for number in kept if number is not None]


def _read(text: str) -> list[Number | None]:
    return numbers(without_latex(text[-ENDING:]))


def same_number(one: Number, other: Number) -> bool:
    """Return whether two numbers are equal; 50% is as good as 50 and as 0.5.

    Integers are compared exactly, other numbers within a millionth (and 0.001).
    """
    if _same(one.value, other.value):
        return True
    if one.percent == other.percent:
        return False
    return _same(*(n.value / 100 if n.percent else n.value for n in (one, other)))


def _same(one: Fraction, other: Fraction) -> bool:
    if one.denominator == other.denominator == 1:
        return one == other
    return abs(one - other) <= min(TOLERANCE * max(abs(one), abs(other)), LARGEST_GAP)


def numbers(text: str) -> list[Number | None]:
    """Return the numbers of a plain text in order; None for one too large to be meant.

    Signs, thousands separators, decimals (12.5 and 12,5), exponents, powers, simple and mixed
    fractions, percent and the scales 百, 千, 万, 亿, thousand, million … are understood. Digits of
    a name or unit (CO2, m²) and dates with slashes are no numbers; 十二 is not read.
    """
    read: list[Number | None] = []
    plain = unicodedata.normalize("NFKC", _GLUED.sub(_apart, text))
    end, joins, scale = 0, False, 1
    for match in _NUMBER.finditer(plain):
        if match["skip"]:
            continue
        value, last = _value(match), read[-1] if read else None
        if value is not None and last and joins and match.start() == end and value < scale:
            if match["body"] in "123456789" and not match["scale"]:  # 3万5 is 35000
                value *= scale // 10
            joined = last.value + value if last.value >= 0 else last.value - value
            read[-1] = Number(joined, bool(match["percent"]), last.rounded)  # 3亿5000万
        else:
            rounded = _ROUNDED.fullmatch(plain, end, match.start()) is not None
            number = None if value is None else Number(value, bool(match["percent"]), rounded)
            read.append(number)
        end, scale = match.end(), _scale(match["scale"])
        joins = bool(match["scale"]) and not match["scale"].isascii()
    return read


def _apart(match: regex.Match[str]) -> str:
    if match["power"]:
        return "^" + match["power"]
    if match["part"]:
        after_digit = match.start() > 0 and match.string[match.start() - 1].isdigit()
        return f" {match['part']}" if after_digit else match["part"]
    return ", " if match["comma"] else " "


def _scale(name: str | None) -> int:
    if not name:
        return 1
    return _SCALES.get(name.lower()) or prod(_SCALES[character] for character in name)


def _value(match: regex.Match[str]) -> Fraction | None:
    digits, _, exponent = _decimal(match["body"]).partition("e")
    if len(digits) > LONGEST or len(exponent) > 4 or abs(int(exponent or 0)) > LONGEST:
        return None
    number = Fraction(f"{digits}e{exponent or 0}")
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


def _decimal(body: str) -> str:
    """Return a number's digits without separators of thousands and with a decimal point."""
    if regex.fullmatch(r"0,[0-9]+|[0-9]+,(?![0-9]{3}$)[0-9]+", body):
        return body.replace(",", ".")
    return body.replace(",", "").replace(" ", "").lower()
