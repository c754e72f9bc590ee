"""Which number an answer means."""

from threading import Thread
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.checkers.checkers import check
from eval.checkers.numerals import numbers
from eval.schema.case import Checker

PLAIN = [
    ("54 cm²", "54"),
    ("36 m2", "36"),
    ("36 m^2", "36"),
    ("12 kg of CO₂", "12"),
    ("9.8 m·s⁻²", "9.8"),
    ("① 12", "12"),
    ("①12", "12"),
    ("10⁶", "1000000"),
    ("3 × 10⁶", "3000000"),
    ("2.5 x 10^-3 m", "0.0025"),
    ("2^10", "1024"),
    ("–5", "-5"),
    ("3–5", "5"),
    ("12万", "120000"),
    ("1.5 亿元", "150000000"),
    ("3亿5000万", "350000000"),
    ("1万2000元", "12000"),
    ("3百万", "3000000"),
    ("3万5", "35000"),
    ("1万2千元", "12000"),
    ("No.5", "5"),
    ("about .5", "0.5"),
    ("12 千克", "12"),
    ("1.2 million people", "1200000"),
    ("3/4", "0.75"),
    ("-1 1/2", "-1.5"),
    ("1½ hours", "1.5"),
    (r"\frac{3}{4}", "0.75"),
    ("3/4 + 5/8 = 1.375", "1.375"),
    ("USD12", "12"),
    ("有12个", "12"),
    ("分别是3，100", "100"),
    ("共１２件", "12"),
    ("_12_", "12"),
    ("42 (GPT4)", "42"),
    ("1/3", "0.333333"),
    ("2**3", "8"),
    ("2 ** 3", "8"),
    ("**2** 3", "3"),
    ("1 000 000", "1000000"),
    ("10 000 元", "10000"),
    ("1 234 567.5", "1234567.5"),
    ("2百", "200"),
    ("2百50", "250"),
    ("1013百帕", "1013"),
]
# What math-verify reads.
LATEX = [
    (r"so it is $\frac{3}{4}$ of all", "0.75"),
    (r"$x = -\dfrac{1}{2}$", "-0.5"),
    (r"\boxed{1\frac{1}{2}}. Check: 3/2 = 1.5, 7 - 5 = 2", "1.5"),
    (r"$\boxed{x = 5}$", "5"),
    (r"\[ 2\sqrt{2} \]", "2.8284271247"),
    (r"\(\sqrt{16}\)", "4"),
    (r"It comes to $3 \times 10^{6}$ m.", "3000000"),
    (r"$\left(\frac{1}{2}\right)^{2}$", "0.25"),
    (r"$6 \cdot 7 = 42$", "42"),
    (r"$36\text{ cm}^2$", "36"),
    (r"$12{,}345$", "12345"),
    (r"\boxed{1\,234}", "1234"),
    (r"$\boxed{12万}$", "120000"),
    (r"$90^\circ$", "90"),
    (r"3 \times 10^{6} m^{2}", "3000000"),  # no passage of LaTeX
    ("2^{10}", "1024"),
    (r"$\frac{1}{2}$, that is 4 of 8.", "8"),  # the last number, wherever LaTeX stands
    ("It costs $5, so two cost $10.", "10"),  # dollars
]
# What it reads otherwise than earlier versions of this checker did, which follows it.
OTHERWISE = [
    ("12,5", "12.5"),  # was 5
    ("0,125", "0.125"),  # was 125
    ("12 500", "12500"),  # was 500
    ("100 200 300", "100200300"),  # was 300
]


def judged(value: str, answer: str) -> bool:
    return check(Checker(kind="numeric", values=(value,)), answer, "")[1]


def test_what_number_an_answer_ends_on():
    for answer, number in [*PLAIN, *LATEX, *OTHERWISE]:
        assert judged(number, answer), answer
        assert not judged(f"{float(number) + 1:.9f}", answer), answer


def test_lists_have_no_decimal_commas():
    for answer in ("1,2,3", "(1,3)", "[12,3]", "1, 3"):
        assert judged("3", answer), answer


def test_percent_is_a_number_and_its_hundredth():
    for answer in ("50%", "50 percent", "共50％", r"$50\%$", r"\boxed{50\%}"):
        assert judged("50", answer), answer
        assert judged("0.5", answer), answer
        assert judged("50%", answer), answer
        assert not judged("0.5%", answer), answer
    assert judged("50%", "0.5")
    assert not judged("50", "0.5")


def test_an_exact_number_and_its_approximation_are_both_said():
    for answer in (r"$x = \frac{1}{3} \approx 0.333$", "1/3 ≈ 0.333", "是1/3，约为 1/3 ≈0.333"):
        assert judged("1/3", answer), answer
        assert judged("0.333", answer), answer
    assert not judged("3", "3 or 4 ≈ 4.1")


@pytest.mark.parametrize(
    ("value", "answer", "right"),
    [
        ("1234567", "1234568", False),
        ("1234567", "1234567.0", True),
        ("1234567", "1234567.4", False),
        ("12345678901234567890", "12345678901234567891", False),
        ("12345678901234567890", r"\boxed{12345678901234567891}", False),
        ("12345678901234567891", r"$\text{so }12345678901234567891$", True),
        ("1e30", "1" + "0" * 30, True),
        ("1e30", "$10^{30}$", True),
        ("0.1", "0.10000001", True),
        ("0.1", "0.1001", False),
        ("5", "5/0", False),
        ("0", r"$\frac{1}{0}$", False),
        ("2", "2024/05/02", False),
    ],
)
def test_integers_are_compared_exactly(value, answer, right):
    assert judged(value, answer) is right


HOSTILE = [
    "1e999999999999",
    "9" * 50_000,
    "9^999999",
    "9**9**9**9",
    "1,1," * 30_000,
    "1 ** " * 30_000,
    "1万" * 50_000,
    "$1$" * 30_000,
    r"$9^{9^{9}}\cdot 1$",
    r"$\frac{9^9^9^9}{1}$",
    r"$((9^{999})^{999})^{999}\cdot 1$",
    r"$9^{999 999 999}\cdot 1$",
    r"$9^{999999999}\cdot 1$",
    r"$2^{\frac{1}{999999999}}$",
    r"$(9^{9})!\cdot 1$",
    r"$\int_0^{1} x^{999} dx$",
    r"$\sum_{n=1}^{999} \frac{1}{n}$",
    r"\boxed{" * 20_000,
    r"\boxed{" + "{" * 50_000 + "}" * 50_001,
    "$" + "(" * 90 + r"1\cdot 1" + ")" * 90 + "$",
    "$" + r"\frac{1}{" * 20 + "2" + "}" * 20 + "$",
    "$" + r"(\sqrt2+" * 6 + "1" + ")^{3}" * 6 + "$",
]


def test_no_answer_stalls():
    judged("5", r"$\frac{1}{2}$")  # loads the library
    for answer in HOSTILE:
        start = monotonic()
        assert not judged("5", answer), answer[:60]
        assert monotonic() - start < 5, answer[:60]


def test_latex_is_read_off_the_main_thread_too():
    right: list[bool] = []
    thread = Thread(target=lambda: right.append(judged("0.75", r"$\frac{3}{4}$")))
    thread.start()
    thread.join(60)
    assert right == [True]


@given(st.text(alphabet="0123456789.,-+/^eE×10m²½万亿 {}()%≈"))
def test_any_text_has_numbers_or_none(text):
    for number in numbers(text):
        assert number is None or isinstance(number.value.numerator, int)


@given(st.integers(-(10**20), 10**20), st.sampled_from(["{}", "{:,}", "得{}元。", "= {}."]))
def test_an_integer_is_read_back_however_it_is_written(integer, form):
    (number,) = numbers(form.format(integer))
    assert number is not None
    assert number.value == integer
