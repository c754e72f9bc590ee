"""Courtesies: which sentences are nothing else, and which questions are about them."""

from __future__ import annotations

import re

from eval.cases.perturbations.tasks import body, sentences
from eval.cases.perturbations.text import ABOUT_COURTESY

COURTESY = re.compile(
    r"(?:(?:hello|hi|hey|greetings|good (?:morning|afternoon|evening|day))"
    r"(?: (?:there|all|everyone|everybody|team))?(?:, ?|$))?"
    r"(?:(?:i |we )?(?:hope|trust) (?:you are|you're|this (?:mail|e-?mail|message) finds you|"
    r"all is|everything is) (?:(?:doing )?(?:well|fine|great|good))"
    r"|(?:many |best )?(?:thanks|thank you|cheers)(?: so much| very much| a lot| a million)?"
    r"(?: (?:in advance|for (?:all )?your (?:kind )?(?:help|time|patience|support|attention|"
    r"understanding|assistance)))?"
    r"|(?:i(?: would|'d)? |we )?(?:really )?appreciate (?:it|your (?:help|time|support|patience))"
    r"|have a (?:nice|good|great|lovely|wonderful) (?:day|evening|weekend|week|one)"
    r"|(?:(?:best|kind|warm) )?(?:regards|wishes)|yours (?:sincerely|faithfully|truly)"
    r"|(?:(?:i am|i'm) )?sorry (?:to (?:bother|disturb)|for (?:bothering|disturbing)) you"
    r"|(?:i have|here is|just) an? (?:small|quick|short) (?:question|request)(?: for you)?"
    r"|(?:i |we )?look(?:ing)? forward to (?:your (?:reply|answer)|hearing from you))?"
    r"|(?:你好|您好|大家好|早上好|上午好|中午好|下午好|晚上好|哈喽|嗨)"
    r"|(?:不好意思|抱歉|对不起)?[，,]?打扰(?:一下|您了|你了|了)"
    r"|(?:先|非常|十分|多)?(?:谢谢|感谢|多谢)(?:你|您|各位|大家)?(?:了|啦)?(?:的)?(?:帮助|耐心|支持|理解)?"
    r"|辛苦(?:了|你了|您了|啦)(?:[，,](?:非常)?(?:谢谢|感谢))?"
    r"|祝(?:你|您)?(?:工作顺利|生活愉快|一切顺利|身体健康|周末愉快|心情愉快|好)"
    r"|希望(?:你|您)?一切(?:都)?(?:好|顺利)",
    re.IGNORECASE,
)
# "Hello, what is …" and "…, thanks": the writer's own, too.
_OPENING = re.compile(
    r"^\W*(?:(?:hello|hi|hey)(?: (?:there|all|everyone|team))?\s*[,，!]"
    r"|[你您]好(?:啊|呀)?[,，!！~～\s])",
    re.IGNORECASE,
)
_CLOSING = re.compile(
    r"[,，]\s*(?:many thanks|thanks|thank you|谢谢(?:你|您|了)?)\W*$", re.IGNORECASE
)


def about_courtesy(text: str) -> bool:
    """Whether a text speaks of greetings, thanks or politeness, beside those of its writer."""
    said = [_CLOSING.sub("", _OPENING.sub("", text[slice(*span)])) for span in sentences(text)]
    return any(
        ABOUT_COURTESY.search(sentence)
        for sentence in said
        if not COURTESY.fullmatch(body(sentence))
    )
