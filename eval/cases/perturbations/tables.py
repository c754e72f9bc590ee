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

# Words and what they look like when a character of the same sound was picked from the input method.
# None is another word, and none says a person, number, negation, comparison, direction or time:
# a character swapped anywhere made "他" of "她" and the question "哪里" a statement.
TYPOS_ZH = dict(
    pair.split("/")
    for pair in """
回答/回达 问题/问提 客户/客互 产品/产拼 处理/处利 联系/联戏 说明/说名 下面/下免
数字/数子 作答/作达 多少/多勺 计算/记算 结果/结过 解释/解式 描述/描数 总结/总节
翻译/翻意 生成/生程 提取/提曲 提供/题供 选择/选泽 推荐/推见 改写/改些 阅读/阅渎
短文/短闻 文章/文张 句子/句籽 段落/段洛 内容/内溶 文本/文苯 信息/信希 消息/销息
邮件/油件 报告/报搞 记录/记碌 工单/工丹 订单/定单 用户/用互 服务/服物 支持/支池
故障/故帐 办法/办发 方法/方发 方案/方岸 类别/累别 优先/优仙 日期/日欺 地址/地纸
姓名/姓明 电话/电画 价格/价各 付款/付宽 退款/退宽 配送/配颂 保修/保休 部门/部们
团队/团对 公司/公思 细节/细结 例子/例籽 格式/格事 表格/表各 步骤/步奏 代码/代马
程序/程叙 函数/涵数 数据/数剧 输出/输初 根据/跟据 可以/可已 已经/以经 因为/因维
所以/所已 什么/神么 怎么/怎莫 怎样/怎漾 如何/如合 我们/我门 你们/你门 现在/现再
时候/时侯 时间/时见 开始/开使 完成/完程 认为/认维 觉得/觉的 知道/知到 告诉/告述
介绍/介邵 建议/建意 准备/准被 必须/必虚 应该/因该 要求/要球 包含/包寒 使用/使佣
出现/出县 正确/正却 错误/错物 选项/选巷 字母/字姆 名称/名撑 名字/名资 城市/程市
学校/学效 学生/学声 老师/佬师 同学/同雪 朋友/朋有 医生/医声 图书馆/图书管 银行/银航
手机/手鸡 电脑/电恼 汽车/气车 火车/伙车 天气/天汽 衣服/衣付 房间/房见 孩子/孩籽
苹果/苹过 水果/水裹 动物/动务 颜色/言色 喜欢/喜环 商店/商电 商品/商拼 平均/平军
面积/面机 长方形/长方型 速度/素度 总共/总供 恰好/洽好 情况/情矿 发生/发身 继续/继叙
检查/捡查 维修/维休 安装/安桩 登录/登路 账号/帐号 密码/密马 系统/系桶 软件/软见
网络/网洛 网站/网占 屏幕/平幕 文件/文见 设备/设被 机器/机气 物流/务流 快递/快弟
包裹/包果 仓库/仓裤 签收/签受 投诉/投述 反馈/反溃 感谢/感榭 抱歉/报歉 希望/希忘
帮助/帮住 帮忙/帮芒 麻烦/麻翻 高兴/高幸 重复/重付 重要/重药 简单/减单 困难/因难
认真/认针 仔细/仔系 清楚/清处 干净/干静 历史/历使 文化/文话 科学/科雪 社会/社汇
国家/国加 世界/世届 季节/季洁 植物/植务 练习/炼习 考试/考式 作业/作夜 作文/作闻
题目/提目 故事/故试 电影/电映 音乐/音悦 运动/运洞 比赛/比塞 成绩/成级 医院/医员
餐厅/餐听 早餐/早残 咖啡/咖菲 解决/解绝 申请/伸请 审核/审合 更新/更心 修改/休改
取消/取销 确认/却认 提醒/提星 通知/通之 安排/安牌 会议/会义 计划/记划 项目/巷目
合同/合铜 发票/发漂 金额/金饿 余额/余饿 优惠/优会 活动/活洞 附近/付近 周末/周沫
温度/温渡 环境/环镜 空气/空汽 材料/材廖 食物/食务 健康/健糠 身体/身题 生活/声活
工作/工做 公园/公圆 电梯/电踢 季度/季渡 资料/资廖 质量/质粮 标准/标淮 影响/影晌
关系/关戏 能够/能勾 经常/经长 虽然/虽燃 非常/非长 特征/特争 研究/研就 推理/推利
分析/分西 阳光/洋光 雨伞/雨散 森林/森邻 蔬菜/疏菜 牛奶/牛乃 面包/面苞 鸡蛋/鸡旦
桌子/卓子 椅子/倚子 窗户/窗互 厨房/橱房 灯光/登光 保持/保池 减少/减勺 增加/曾加
距离/距璃 行驶/行史 请用/清用 请写/清写 请把/清把 请问/清问 请给/清给
请按/清按 请列/清列 请判/清判 请根/清根
""".split()  # noqa: SIM905 - pairs read better than strings
)

# Pairs of letters that no common English word has. A slip of the keyboard that makes one of them
# is seen to be a slip; others make words of words: "drips" and "drops", "team" and "tram".
UNHEARD_OF = frozenset(
    """
bk bq bx bz cb cj cv cw cx cz dq dz fd fh fj fk fp fq fv fw fx fz gj gk gq gx gz hc hg hj hk hq
hv hx hz jb jc jd jf jg jh jj jk jl jm jn jp jq jr jt jv jw jx jy jz kc kj kq kv kx kz lj lq lx
lz mg mj mk mq mr mv mw mx mz pq px pz qb qc qd qe qf qg qh qj qk qm qn qo qp qq qr qt qv qw qx
qy qz rj rq rx rz sj sv sx sz tj tq uq uw vb vc vd vf vg vh vj vk vl vn vp vq vt vw vx vz wj wq
wv wx wz xb xf xg xj xk xl xn xq xv xw xx xz yh yj yk yq yv yx yy zb zc zd zf zg zh zj zk zn zp
zq zr zs zu zv zw zx
""".split()  # noqa: SIM905 - a list of so many pairs is unreadable
)
# Words nevertheless: what is no English word may be the name of a thing.
ABBREVIATIONS = frozenset(
    """
apis apps ascii asap atms bmps btus ceos cpus csvs ctrl ctime dbms dids dlls dlss dpis dvds exec
exes fbis ftps gbps gdps gifs gmbh gmos gpas gpts gpus gtxs hdds hdmi hdtv html http https ides
ieee ikea imap ipos isbn isos jpeg jpgs json kbps kpis lcds leds llms mbps mpeg mpgs msgs mysql
nasa ngos nvme pcbs pdfs phds pngs psus pptx qubit rfid rgbs rpgs rpms rsvp sdks sftp smtp sqls
ssds ssns suvs svgs tcps tmps ttys tvos udps ufos upss urls usbs utfs vcrs vips vlan voip vpns wifi
wlan xbox xhtml xlsx xmls yaml yamls
""".split()  # noqa: SIM905 - a list of so many words is unreadable
)
# Pairs of consonants that English words begin and end with.
FIRST_PAIRS = frozenset(
    """
bl br bw ch cl cr cz dh dj dr dw fj fl fr gh gl gn gr gw kh kl kn kr kw ll mn ph pl pn pr ps pt
rh sc sf sh sk sl sm sn sp sq sr st sv sw th tr ts tw tz vl vr wh wr zh zl zw
""".split()  # noqa: SIM905 - a list of so many pairs is unreadable
)
LAST_PAIRS = frozenset(
    """
bb bs bt ch ck cs ct cz dd dh ds dt dz ff fs ft gg gh gm gn gs hm hn hs ht ks lb lc ld lf lg lk
ll lm ln lp ls lt lx lz mb mm mn mp ms mt nc nd ng nk nn ns nt nx nz ph pp ps pt rb rc rd rf rg
rh rk rl rm rn rp rr rs rt rv rx rz sc sh sk sm sp ss st th tt ts tz vs wd wk wl wn ws wt xt zz
""".split()  # noqa: SIM905 - a list of so many pairs is unreadable
)
