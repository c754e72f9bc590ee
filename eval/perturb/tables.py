"""Words and characters of the perturbations, in English and Chinese."""

from __future__ import annotations

FRAMES = (
    "I need your help with the following task.\n{text}",
    "Here is what I would like you to do:\n{text}",
    "Would you mind taking care of this?\n{text}",
    "This is the request I have for you.\n{text}",
)
FRAMES_ZH = (
    "我想请你完成下面的任务。\n{text}",
    "下面这件事需要你来处理：\n{text}",
    "能否帮我解决以下问题？\n{text}",
    "这是我的请求，内容如下。\n{text}",
)
REQUESTS = (
    "Could you {text}",
    "I would like you to {text}",
    "Your task is to {text}",
    "It would help me if you could {text}",
)
REQUESTS_ZH = ("麻烦你{text}", "我希望你{text}", "你的任务是{text}", "想请你帮忙{text}")

BEFORE = (
    "Hello!",
    "Hi there, I hope you are well.",
    "Good morning.",
    "Sorry to bother you, I have a small request.",
)
AFTER = (
    "Thank you very much!",
    "Thanks in advance.",
    "I appreciate your help.",
    "Have a nice day, and thank you for your patience.",
)
BEFORE_ZH = ("你好！", "您好，打扰一下。", "早上好。", "不好意思，想麻烦您一件事。")
AFTER_ZH = ("非常感谢！", "谢谢你的帮助。", "辛苦了，谢谢。", "祝您工作顺利，感谢您的耐心。")

KEYBOARD_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")

# Frequent characters that pinyin input confuses: one syllable whatever the tone, and the pairs
# that many speakers do not tell apart (zh/z, ch/c, sh/s, ing/in, eng/en). Numerals, units of
# measure and negations are left out, as another one of those is another question.
HOMOPHONES = """
报保包宝抱饱 被北备 比必笔 变便边 部布步补捕簿 常场 成程城称承诚乘惩橙呈 此次词刺辞慈磁瓷 出处
大打达答 代带 但单丹担蛋弹 到道导 的得德 等登灯 点电店典殿垫淀颠 定订顶丁 动东 对队 而儿尔 发法
反饭犯返范烦翻番凡繁帆 方放房防访仿芳妨纺 副付复负福服府符辅富 高告 各格 公工共功攻供 关管观
国过果 还海 和合何核 后候 话化 坏怀 环换缓欢 会回汇惠慧绘挥辉灰恢 或活货获火伙惑祸
机己及计基即记纪急级极集积激击鸡吉既继技际济季绩寄 家加价假架嘉
间见建件坚减简健检监键渐尖肩艰践鉴箭舰剑 教交 解结接界 经进金今近尽 据具 决觉 可克科客课刻 快块筷
款宽 里理力利立 联连脸练链恋怜莲廉 流留刘柳 路陆录露鹿炉鲁 马码 门们 民明名命 那哪 难南 票飘漂
平品拼聘频 起其气期器齐奇骑企启弃汽妻欺 且切 情清请轻青庆晴倾氢 去区取 全权 人任认 如入
上商伤尚赏 社设色 生声盛什身神申审 是事实使世市式师识释视斯司思死 送松颂宋 手受
数书术述诉速素宿苏塑 说所 他她它 太台抬态泰 体提题 同通统痛童桶铜筒 头投 退推腿 王望网
为位维围味卫喂谓微威危伪委 问文 物务误午武舞屋 西系息喜细希洗席习吸戏析惜 现先 想向相像象箱
小消笑效校销肖孝晓 些写 行性形型星醒兴姓幸心新信 修休秀袖 须许需 也业 以意已义议异易医依译衣 因应
有又由邮油右友优幽忧 于与 原员院 在再 战展 长张帐账障 这着者则 正政争真
子自资之知制直指至治质置智志致职支纸止值植执枝织址 中种重钟终众忠肿仲总 主住 作做座坐
""".split()  # noqa: SIM905 - groups read better than strings

# Words of instructions and of field names, each with one translation.
LEXICON = {
    "summarize": "总结",
    "explain": "解释",
    "describe": "描述",
    "translate": "翻译",
    "classify": "分类",
    "answer": "回答",
    "reply": "回复",
    "list": "列出",
    "compare": "比较",
    "analyze": "分析",
    "extract": "提取",
    "calculate": "计算",
    "check": "检查",
    "handle": "处理",
    "complete": "完成",
    "generate": "生成",
    "provide": "提供",
    "choose": "选择",
    "recommend": "推荐",
    "rewrite": "改写",
    "please": "请你",
    "question": "问题",
    "text": "文本",
    "sentence": "句子",
    "paragraph": "段落",
    "article": "文章",
    "email": "邮件",
    "message": "消息",
    "report": "报告",
    "record": "记录",
    "ticket": "工单",
    "order": "订单",
    "customer": "客户",
    "user": "用户",
    "product": "产品",
    "service": "服务",
    "support": "支持",
    "problem": "故障",
    "reason": "原因",
    "solution": "解决方案",
    "result": "结果",
    "category": "类别",
    "priority": "优先级",
    "deadline": "截止日期",
    "date": "日期",
    "address": "地址",
    "name": "姓名",
    "phone": "电话",
    "price": "价格",
    "payment": "付款",
    "refund": "退款",
    "delivery": "配送",
    "warranty": "保修",
    "department": "部门",
    "team": "团队",
    "company": "公司",
    "information": "信息",
    "details": "细节",
    "example": "例子",
    "format": "格式",
    "table": "表格",
    "step": "步骤",
    "code": "代码",
    "function": "函数",
    "data": "数据",
    "today": "今天",
    "tomorrow": "明天",
    "the following": "以下",
    "according to": "根据",
    "in detail": "详细地",
    "briefly": "简要地",
}
