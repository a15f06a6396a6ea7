# SPDX-License-Identifier: Apache-2.0
"""The page at / in Chromium, against carat serve on the demonstration model. No test is content with
an answer alone: each also ends with no request that left the origin, nothing that the policy had to
block, and no error in the console. Pictures of the page go to CARAT_SCREENSHOTS."""
import base64
import glob
import json
import os
import re
import sys
import tempfile
import unittest

from harness import DEMO, PATIENCE, Server

try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    print("skipped: Playwright is not installed")
    sys.exit(77)

EVAL = os.path.join(os.path.dirname(DEMO), "eval")
PICTURE = os.path.join(EVAL, "image_002.png")  # a purple square and a yellow triangle
SOUND = os.path.join(EVAL, "audio_000.wav")  # open door white white
FILM = os.path.join(EVAL, "video_000.mp4")  # a red triangle that moves to the left
SHOTS = os.environ.get("CARAT_SCREENSHOTS", "")
WAIT = PATIENCE * 1000

TOOLS = json.dumps([{"name": "get_weather", "description": "Returns the weather.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}])

RICH = r"""## Quadratic equations

The roots of $ax^2 + bx + c = 0$, at $5 or $10 each, are

$$x_{1,2} = \frac{-b \pm \sqrt{b^2 - 4ac}}{2a}$$

| Discriminant | roots | example |
|:---|:---:|---:|
| positive | two | $x^2 - 1$ |
| negative | none | $x^2 + 1$ |

```python
import math

def roots(a, b, c):
    d = b * b - 4 * a * c  # the discriminant
    return [] if d < 0 else [(-b - math.sqrt(d)) / (2 * a)]
```

- [x] solved
- [ ] open, *perhaps*

\[ \boxed{\int_0^\infty e^{-x^2}\,dx = \frac{\sqrt{\pi}}{2}} \]
"""

HOSTILE = r"""<script>window.hacked = 1</script><img src=x onerror="window.hacked = 2">
<svg onload="window.hacked = 3"><style>body { display: none }</style></svg>
<iframe srcdoc="<script>parent.hacked = 4</script>"></iframe><form action="http://example.com"><button>Go</button></form>
<p style="position: fixed; inset: 0" id="text" class="toast">over it all</p>
<a href="javascript:window.hacked = 5" onclick="window.hacked = 6">a</a> [b](javascript:window.hacked=7)
[c](data:text/html,<script>window.hacked=8</script>) ![d](http://example.com/leak.png) <img src="http://example.com/leak2.png">
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=window.hacked=9&gt;">
$\href{javascript:window.hacked=10}{x}$ $\includegraphics{http://example.com/leak3.png}$ $\htmlStyle{position:fixed}{y}$

```html" onload="window.hacked=11
<img src=x onerror=window.hacked=12>
```

[e](https://example.com/fine) <b>bold</b> and last words"""


def find_browser():
    wanted = os.environ.get("CARAT_CHROMIUM")
    found = [wanted] if wanted else (glob.glob("/usr/bin/chromium-headless-shell")
                                     + glob.glob("/usr/bin/chromium"))
    if not found:
        print("skipped: no Chromium")
        sys.exit(77)
    return found[0]


def setUpModule():
    global server, play, browser
    path = find_browser()
    server = Server()
    play = sync_playwright().start()
    arguments = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
                 f"--use-file-for-fake-audio-capture={SOUND}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    browser = play.chromium.launch(executable_path=path, args=arguments)
    if SHOTS:
        os.makedirs(SHOTS, exist_ok=True)


def tearDownModule():
    browser.close()
    play.stop()
    server.stop()


def conversation(*nodes, title=""):
    """The text of a file to import: a chain of messages."""
    chain = [{"id": f"n{i}", "parent": f"n{i - 1}" if i else None, **node} for i, node in enumerate(nodes)]
    return json.dumps({"format": "carat-conversations", "version": 1, "conversations": [
        {"id": "c", "title": title, "system": "", "nodes": chain, "leaf": chain[-1]["id"]}]})


class Page(unittest.TestCase):
    def open(self, url=None, settings=None, refused=(), **context):
        """A browser of its own, with nothing kept. refused: errors that may be in the console."""
        self.refused = refused
        self.context = browser.new_context(**{"viewport": {"width": 1180, "height": 800},
                                              "color_scheme": "light", **context})
        self.addCleanup(self.context.close)
        self.context.set_default_timeout(WAIT)
        expect.set_options(WAIT)
        self.context.add_init_script("""
            window.blocked = [];
            addEventListener('securitypolicyviolation', (event) =>
                window.blocked.push(`${event.violatedDirective} ${event.blockedURI} ${event.sample}`));""")
        self.settings = {"temperature": 0, **(settings or {})}
        self.context.add_init_script(f"""if (!localStorage.getItem('carat.settings')) {{
            localStorage.setItem('carat.settings', JSON.stringify({json.dumps(self.settings)})); }}""")
        self.asked = []  # bodies of the requests for answers
        self.strays = []  # requests to anybody else
        self.errors = []
        self.url = url or server.url
        self.context.on("request", self.note_request)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: line.type == "error" and self.errors.append(line.text))
        self.page.goto(self.url + "/")
        return self.page

    def note_request(self, request):
        if request.url.endswith("/chat/completions"):
            self.asked.append(json.loads(request.post_data))
        if not request.url.startswith((self.url + "/", "blob:", "data:")):
            self.strays.append(request.url)

    def close(self):
        """What must hold at the end of every test."""
        self.assertEqual(self.page.evaluate("window.blocked"), [])
        self.assertEqual(self.strays, [])
        left = [error for error in self.errors if not any(words in error for words in self.refused)]
        self.assertEqual(left, [])

    def shot(self, name):
        if SHOTS:
            self.page.mouse.move(0, 0)
            self.page.wait_for_timeout(150)
            self.page.screenshot(path=os.path.join(SHOTS, name + ".png"))

    def settle(self):
        """The last answer, once it is complete."""
        answer = self.page.locator(".answer").last
        expect(answer).to_have_attribute("aria-busy", "false")
        return answer

    def ask(self, text):
        n = self.page.locator(".message").count()
        self.page.fill("#text", text)
        self.page.keyboard.press("Enter")
        expect(self.page.locator(".message")).to_have_count(n + 2)
        return self.settle().locator(".text").inner_text()

    def load(self, text, name="chat.json"):
        self.page.set_input_files("#import", {"name": name, "mimeType": "application/json",
                                              "buffer": text.encode("utf-8")})
        expect(self.page.locator(".toast")).to_be_visible()


class Chat(Page):
    def test_answers_as_it_is_written_and_stops(self):
        page = self.open()
        self.assertEqual(page.title(), "carat")
        self.shot("desktop-light-empty")
        self.assertEqual(self.ask("What is 3 + 4?"), "7")
        self.assertIn("tokens/s", page.locator(".stats").inner_text())
        expect(page.locator("#memory")).to_have_text(re.compile(r"\d+ [MG]B"))
        self.assertEqual(self.asked[0]["messages"], [{"role": "user", "content": "What is 3 + 4?"}])
        self.assertTrue(self.asked[0]["stream_options"]["include_usage"])
        self.ask("What is the capital of Peru?")
        expect(page.locator(".stats").last).to_contain_text("cached")
        self.assertEqual([m["role"] for m in self.asked[1]["messages"]], ["user", "assistant", "user"])

        # So slow a line that the words come one by one.
        line = self.context.new_cdp_session(page)
        line.send("Network.enable")
        line.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": 900, "uploadThroughput": 100000})
        page.fill("#text", "Who are you?")
        page.keyboard.press("Enter")
        text = page.locator(".answer").last.locator(".text")
        expect(text).to_contain_text("I am")
        expect(page.locator(".answer").last).to_have_attribute("aria-busy", "true")
        page.click("#send[title=Stop]")
        expect(page.locator(".answer").last).to_contain_text("Stopped.")
        self.assertNotIn("simple questions", text.inner_text())
        line.send("Network.emulateNetworkConditions", {
            "offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})
        self.assertEqual(self.ask("What is 3 + 4?"), "7")
        self.close()

    def test_another_answer_and_another_question(self):
        page = self.open()
        self.assertEqual(self.ask("What is 3 + 4?"), "7")
        page.click("[aria-label='Answer again']")
        expect(page.locator(".siblings")).to_contain_text("2/2")
        self.settle()
        self.assertEqual(self.asked[0]["messages"], self.asked[1]["messages"])
        page.click("[aria-label='Previous version']")
        expect(page.locator(".siblings")).to_contain_text("1/2")
        page.locator(".user").hover()
        page.click("[aria-label='Edit and send again']")
        page.fill(".edit-text", "What is the capital of Peru?")
        page.keyboard.press("Enter")
        expect(page.locator(".user .siblings")).to_contain_text("2/2")
        self.assertIn("Lima", self.settle().locator(".text").inner_text())
        self.assertEqual(len(self.asked[2]["messages"]), 1)
        page.click(".user [aria-label='Previous version']")
        expect(page.locator(".answer .text")).to_have_text("7")
        self.close()

    def test_thinks_and_folds_the_thought(self):
        page = self.open()
        page.click(".toggle")
        expect(page.locator(".toggle")).to_have_attribute("aria-pressed", "true")
        self.assertEqual(self.ask("What is 8 plus 2?"), "10")
        self.assertEqual(self.asked[0]["reasoning_effort"], "medium")
        thought = page.locator(".thought")
        expect(thought.locator("summary")).to_contain_text("Thought for")
        self.assertIsNone(thought.get_attribute("open"))
        thought.locator("summary").click()
        self.assertGreater(len(thought.locator(".thought-text").inner_text()), 5)
        self.shot("thinking")
        page.click(".toggle")
        self.ask("What is 8 plus 2?")
        self.assertEqual(self.asked[1]["reasoning_effort"], "none")
        self.assertNotIn("reasoning_content", json.dumps(self.asked[1]["messages"]))
        self.close()

    def test_shows_calls_and_takes_results(self):
        page = self.open(settings={"tools": TOOLS})
        self.ask("How is the weather in Oslo?")
        call = page.locator(".call")
        expect(call.locator("summary")).to_contain_text("get_weather")
        expect(call.locator("dd")).to_have_text("Oslo")
        call.locator("textarea").fill('{"temperature": 16, "condition": "sunny"}')
        call.locator("textarea").press("Enter")
        expect(page.locator(".answer")).to_have_count(2)
        self.assertIn("sunny", self.settle().locator(".text").inner_text())
        sent = self.asked[1]["messages"]
        self.assertEqual([m["role"] for m in sent], ["user", "assistant", "tool"])
        self.assertEqual(sent[2]["tool_call_id"], sent[1]["tool_calls"][0]["id"])
        self.shot("tool-call")
        self.close()

    def test_settings_reach_the_server(self):
        page = self.open(settings={"temperature": None})
        self.ask("Hello!")
        self.assertFalse({"temperature", "top_p", "top_k", "seed", "max_completion_tokens", "tools"}
                         & set(self.asked[0]))
        page.keyboard.press("Control+,")
        values = {"temperature": "0.5", "topP": "0.8", "topK": "12", "tokensMax": "3", "seed": "42"}
        for name, value in values.items():
            page.fill(f"#set-{name}", value)
        page.fill("#set-system", "You are carat-demo.")
        page.locator("input[name=set-detail][value=low]").check()
        self.shot("settings")
        page.fill("#set-seed", "-1")  # refused: the last good one stays
        expect(page.locator("#set-seed")).to_have_attribute("aria-invalid", "true")
        page.keyboard.press("Escape")
        expect(page.locator("#system-mark")).to_be_visible()
        self.ask("Who are you?")
        expect(page.locator(".answer").last).to_contain_text("Cut off")
        body = self.asked[1]
        self.assertEqual((body["temperature"], body["top_p"], body["top_k"], body["seed"]), (0.5, 0.8, 12, 42))
        self.assertEqual(body["max_completion_tokens"], 3)
        self.assertEqual(body["messages"][0], {"role": "system", "content": "You are carat-demo."})
        self.close()


class Media(Page):
    def test_picture_by_file_drop_and_paste(self):
        page = self.open()
        with page.expect_file_chooser() as chooser:
            page.click("#attach")
        chooser.value.set_files(PICTURE)
        expect(page.locator(".tray img")).to_have_count(1)
        self.assertEqual(self.ask("Describe the picture."), "A purple square and a yellow triangle.")
        url = self.asked[0]["messages"][0]["content"][0]["image_url"]["url"]
        with open(PICTURE, "rb") as file:
            data = file.read()
        self.assertEqual(base64.b64decode(url.split(",")[1]), data)
        self.shot("picture")
        page.click(".picture")
        expect(page.locator("dialog.lightbox img")).to_be_visible()
        page.keyboard.press("Escape")

        page.evaluate("""(bytes) => {
            const transfer = (name) => {
                const made = new DataTransfer();
                made.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
                return made;
            };
            const drop = (type) => document.body.dispatchEvent(new DragEvent(type, {
                bubbles: true, cancelable: true, dataTransfer: transfer('dropped.png')}));
            drop('dragenter');
            window.wasCovered = !document.getElementById('drop').hidden;
            drop('drop');
            document.body.dispatchEvent(new ClipboardEvent('paste', {
                bubbles: true, cancelable: true, clipboardData: transfer('pasted.png')}));
        }""", list(data))
        self.assertTrue(page.evaluate("window.wasCovered"))
        expect(page.locator("#drop")).to_be_hidden()
        expect(page.locator(".tray img")).to_have_count(2)
        page.click("[aria-label='Remove pasted.png']")
        expect(page.locator(".tray img")).to_have_count(1)
        page.evaluate("document.getElementById('new').click()")  # what is attached stays
        self.assertEqual(self.ask("Describe the image."), "A purple square and a yellow triangle.")
        self.assertEqual(len(self.asked[1]["messages"][-1]["content"]), 2)
        self.close()

    def test_sound_film_text_and_what_is_refused(self):
        page = self.open()
        page.set_input_files("#composer input[type=file]", SOUND)
        expect(page.locator(".tray audio")).to_have_count(1)
        self.assertIn("white", self.ask("What do you hear?"))
        self.assertEqual(self.asked[0]["messages"][0]["content"][0]["input_audio"]["format"], "wav")
        page.set_input_files("#composer input[type=file]", FILM)
        self.assertEqual(self.ask("Which way does the shape move?"), "The red triangle moves to the left.")
        page.set_input_files("#composer input[type=file]", {
            "name": "notes.txt", "mimeType": "text/plain", "buffer": b"lamp ``` road"})
        self.ask("Repeat this.")
        self.assertEqual(self.asked[2]["messages"][-1]["content"][0]["text"], "notes.txt:\n````\nlamp ``` road\n````\n")
        page.set_input_files("#composer input[type=file]", {
            "name": "paper.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.7"})
        expect(page.locator(".toast")).to_contain_text("not this kind of file")
        self.close()

    def test_hears_while_it_records(self):
        page = self.open(permissions=["microphone"])
        page.click("#record")
        expect(page.locator(".clock")).to_have_text(re.compile(r"0:(0[4-9]|[1-5]\d)"))
        expect(page.locator(".heard")).to_contain_text("heard 0:0")
        self.shot("recording")
        page.click("#record-done")
        expect(page.locator(".tray audio")).to_have_count(1)
        expect(page.locator(".strip")).to_be_hidden()
        self.assertTrue(self.ask("What do you hear?"))
        ahead, last = self.asked[:-1], self.asked[-1]
        self.assertGreaterEqual(len(ahead), 1)
        whole = base64.b64decode(last["messages"][0]["content"][0]["input_audio"]["data"])
        self.assertEqual(whole[:4] + whole[8:12], b"RIFFWAVE")
        self.assertEqual(int.from_bytes(whole[24:28], "little"), 16000)
        self.assertGreater(len(whole), 3 * 2 * 16000)
        self.assertGreater(max(whole[44:]), 0)
        for body in ahead:
            self.assertEqual(body["max_completion_tokens"], 1)
            heard = base64.b64decode(body["messages"][0]["content"][0]["input_audio"]["data"])
            self.assertEqual(heard[44:], whole[44:len(heard)])  # what was read stays the beginning
        stats = page.locator(".stats").get_attribute("title")
        read, known = map(int, re.search(r"(\d+) tokens read, (\d+) of them known", stats).groups())
        self.assertGreater(known, 0.4 * read, stats)
        self.close()

    def test_resamples_the_same_wherever_it_is_cut(self):
        page = self.open()
        loud, pieces, high = page.evaluate("""async (rates) => {
            const { Resampler } = await import(`${document.baseURI}assets/record.js`);
            const wave = (hz, rate) => Float32Array.from({length: rate}, (_, i) => Math.sin(2 * Math.PI * hz * i / rate));
            const whole = (hz, rate) => new Resampler(rate).push(wave(hz, rate));
            const cut = (hz, rate) => {
                const one = new Resampler(rate), all = wave(hz, rate), out = [];
                for (let at = 0, n = 1; at < rate; at += n, n = (n * 7) % 501 + 1) {
                    out.push(...one.push(all.subarray(at, at + n)));
                }
                return out;
            };
            const peak = (list) => list.slice(500, -500).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
            const gap = (a, b) => a.reduce((most, x, i) => Math.max(most, Math.abs(x - b[i])), Math.abs(a.length - b.length));
            return [rates.map((rate) => peak(whole(1000, rate))), rates.map((rate) => gap(whole(1000, rate), cut(1000, rate))),
                rates.filter((rate) => rate > 24000).map((rate) => peak(whole(10000, rate)))];
        }""", [8000, 16000, 44100, 48000])
        for level in loud:
            self.assertAlmostEqual(level, 1, delta=0.02)
        for gap in pieces:
            self.assertLess(gap, 1e-6)
        for level in high:  # above half the rate: nothing may be left to fold back
            self.assertLess(level, 0.01)
        self.close()

    def test_takes_a_picture(self):
        page = self.open(permissions=["camera"])
        page.click("#camera")
        expect(page.locator("dialog.camera video")).to_have_js_property("readyState", 4)
        page.click(".shutter")
        expect(page.locator(".tray img")).to_have_count(1)
        expect(page.locator("dialog")).to_have_count(0)
        self.assertTrue(self.ask("What do you see?"))
        url = self.asked[0]["messages"][0]["content"][0]["image_url"]["url"]
        self.assertTrue(url.startswith("data:image/jpeg;base64,"))
        self.close()


class Keeping(Page):
    def test_chats_stay_and_travel(self):
        page = self.open(accept_downloads=True)
        page.set_input_files("#composer input[type=file]", PICTURE)
        self.ask("Describe the picture.")
        page.click("#new")
        expect(page.locator("#welcome")).to_be_visible()
        self.ask("What is the capital of Peru?")
        expect(page.locator(".item")).to_have_count(2)
        page.reload()
        expect(page.locator(".answer .text")).to_contain_text("Lima")  # the one that was open
        page.locator(".item", has_text="Describe").locator(".open").click()
        expect(page.locator(".picture img")).to_have_count(1)
        expect(page.locator(".picture img")).to_have_js_property("naturalWidth", 309)

        item = page.locator(".item", has_text="Describe")
        item.hover()
        item.locator("[aria-label^=Rename]").click()
        page.keyboard.type("Shapes")
        page.keyboard.press("Enter")
        expect(page.locator("#title")).to_have_text("Shapes")
        page.fill("#search", "lima")
        expect(page.locator(".item")).to_have_count(1)
        page.fill("#search", "")

        with page.expect_download() as download:
            page.click("#export")
            page.keyboard.press("Enter")
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, download.value.suggested_filename)
            self.assertEqual(os.path.basename(path), "Shapes.json")
            download.value.save_as(path)
            with open(path, encoding="utf-8") as file:
                text = file.read()
        with page.expect_download() as download:
            page.click("#export")
            page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
        self.assertEqual(download.value.suggested_filename, "Shapes.md")
        with open(download.value.path(), encoding="utf-8") as file:
            self.assertIn("**You**\n\n*image_002.png*\n\nDescribe the picture.", file.read())

        item = page.locator(".item", has_text="Shapes")
        item.hover()
        item.locator("[aria-label^=Delete]").click()
        expect(page.locator(".item")).to_have_count(1)
        page.click(".toast button")
        expect(page.locator(".item")).to_have_count(2)
        page.locator(".item", has_text="Shapes").hover()
        page.locator(".item", has_text="Shapes").locator("[aria-label^=Delete]").click()
        expect(page.locator(".item")).to_have_count(1)
        self.load(text)
        expect(page.locator("#title")).to_have_text("Shapes")
        expect(page.locator(".picture img")).to_have_js_property("naturalWidth", 309)
        expect(page.locator(".answer .text")).to_have_text("A purple square and a yellow triangle.")
        page.reload()
        expect(page.locator(".item")).to_have_count(2)
        self.close()

    def test_goes_on_where_nothing_is_kept(self):
        page = self.open()
        self.context.add_init_script("""
            Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }});
            Object.defineProperty(window, 'indexedDB', {get() { throw new DOMException('no', 'SecurityError'); }});""")
        self.errors.clear()
        page.reload()
        self.ask("What is 3 + 4?")
        expect(page.locator(".toast")).to_contain_text("does not let this page keep")
        page.click("#theme")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        # The tests' own script that sets the temperature fails there, too.
        self.refused = ("SecurityError", "no")
        self.close()

    def test_says_why_an_import_failed(self):
        page = self.open()
        for text, words in [("{", "not valid JSON"), ("[]", "no conversations"),
                            (conversation({"role": "user", "text": "x", "parts": [
                                {"kind": "image", "data": "http://example.com/x.png"}]}), "data:")]:
            self.load(text)
            expect(page.locator(".toast")).to_contain_text(words)
        # Parents in a circle, and types that are wrong.
        self.load(json.dumps({"format": "carat-conversations", "conversations": [
            {"title": 5, "leaf": "a", "nodes": [{"id": "a", "parent": "b", "role": "user", "text": "round"},
                                                {"id": "b", "parent": "a", "role": "assistant", "calls": 7, "text": None}, None]}]}))
        expect(page.locator(".message.user")).to_contain_text("round")
        self.load(json.dumps({"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 3 + 4?"},
                                           {"role": "assistant", "content": "7"}]}))
        expect(page.locator(".answer .text")).to_have_text("7")
        expect(page.locator("#system-mark")).to_be_visible()
        self.close()


class Looks(Page):
    def show_rich(self):
        self.load(conversation({"role": "user", "text": "How do I solve quadratic equations?"},
                               {"role": "assistant", "text": RICH, "thought": "Give the formula.", "thoughtSeconds": 1.2}))
        expect(self.page.locator("#title")).to_contain_text("quadratic")
        self.page.evaluate("document.getElementById('toast').replaceChildren()")

    def test_code_maths_and_tables(self):
        page = self.open(permissions=["clipboard-read", "clipboard-write"])
        self.show_rich()
        expect(page.locator(".text h2")).to_have_text("Quadratic equations")
        expect(page.locator(".text .katex")).to_have_count(5)
        expect(page.locator(".text .block-formula")).to_have_count(2)
        self.assertIn("at $5 or $10 each", page.locator(".text").inner_text())
        fonts = page.evaluate("document.fonts.ready.then(() => [...document.fonts].filter((f) => f.status === 'loaded').map((f) => f.family))")
        self.assertIn("KaTeX_Main", " ".join(fonts))
        expect(page.locator(".code .hljs-keyword").first).to_have_text("import")
        expect(page.locator(".code figcaption")).to_contain_text("Python")
        page.click(".copy-code")
        expect(page.locator(".copy-code")).to_contain_text("Copied")
        self.assertTrue(page.evaluate("navigator.clipboard.readText()").startswith("import math\n"))
        self.assertEqual(page.locator(".table td").nth(2).evaluate("(e) => getComputedStyle(e).textAlign"), "right")
        expect(page.locator(".text input[type=checkbox]")).to_have_count(2)
        page.evaluate("document.getElementById('scroller').scrollTop = 0")
        self.shot("code-and-maths")
        self.close()

    def test_what_a_model_writes_is_inert(self):
        page = self.open()
        call = {"id": "x", "name": "<img src=x onerror=window.hacked=13>", "arguments": '{"<b>": "<img src=x onerror=window.hacked=14>"}', "result": "<script>"}
        part = {"kind": "text", "name": "<img src=x onerror=window.hacked=15>.txt", "text": "x"}
        self.load(conversation({"role": "user", "text": HOSTILE, "parts": [part]},
                               {"role": "assistant", "text": HOSTILE, "thought": HOSTILE, "calls": [call]},
                               title="<img src=x onerror=window.hacked=16>"))
        expect(page.locator(".answer .text")).to_contain_text("last words")
        page.locator(".thought summary").click()
        page.wait_for_timeout(300)
        self.assertIsNone(page.evaluate("window.hacked ?? null"))
        bad = "script, img, iframe, style, form, button:not(.copy-code), object, embed, link, meta, [style]:not(.katex *), [id], [onclick], .toast"
        self.assertEqual(page.locator(f".markdown :is({bad})").count(), 0)
        self.assertEqual(page.locator(".bubble *").count(), 0)
        links = page.locator(".markdown a[href]").evaluate_all("(all) => all.map((a) => [a.protocol, a.rel, a.target])")
        self.assertTrue(links)
        for protocol, rel, target in links:
            self.assertIn(protocol, ("http:", "https:"))
            self.assertIn("noopener", rel)
            self.assertEqual(target, "_blank")
        self.close()

    def test_long_and_odd_answers_are_shown_in_time(self):
        page = self.open()
        for odd in ("$", "$$ ", "\\(", "\\[", "[", "[a](", "*_", "> ", "`", "<b>", "<!--", "|a", "- ", "$x", "&lt;", "![", "1. "):
            seconds = page.evaluate("""async (text) => {
                const { renderMarkdown } = await import(`${document.baseURI}assets/markdown.js`);
                const start = performance.now();
                renderMarkdown(document.createElement('div'), text, true);
                return (performance.now() - start) / 1000;
            }""", odd * (6000 // len(odd)))
            self.assertLess(seconds, 10, odd)
        self.close()

    def test_light_and_dark(self):
        page = self.open(color_scheme="dark")
        paper = "getComputedStyle(document.body).backgroundColor"
        self.assertEqual(page.evaluate(paper), "rgb(26, 27, 29)")
        self.show_rich()
        self.shot("desktop-dark")
        page.click("#theme")
        self.assertEqual(page.evaluate(paper), "rgb(251, 250, 247)")
        self.shot("desktop-light")
        page.reload()
        self.assertEqual(page.evaluate(paper), "rgb(251, 250, 247)")
        self.close()

    def test_phone(self):
        page = self.open(viewport={"width": 375, "height": 700}, device_scale_factor=2, is_mobile=True, has_touch=True)
        width = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth, document.getElementById('scroller').scrollWidth)"
        self.assertLessEqual(page.evaluate(width), 375)
        self.shot("phone-empty")
        self.show_rich()
        self.assertLessEqual(page.evaluate(width), 375)
        self.shot("phone")
        page.tap("#sidebar-open")
        expect(page.locator("#sidebar")).to_be_visible()
        self.shot("phone-list")
        page.tap("#settings")
        self.assertLessEqual(page.evaluate("document.querySelector('dialog .body').scrollWidth - document.querySelector('dialog .body').clientWidth"), 0)
        self.shot("phone-settings")
        page.tap("dialog [aria-label=Close]")
        page.tap("#new")
        expect(page.locator("#welcome")).to_be_visible()
        expect(page.locator("#sidebar")).to_be_hidden()
        page.fill("#text", "What is 3 + 4?")
        page.tap("#send")
        self.assertEqual(self.settle().locator(".text").inner_text(), "7")
        self.close()

    def test_keyboard(self):
        page = self.open()
        press = page.keyboard.press
        focused = "document.activeElement.id"
        self.ask("What is 3 + 4?")
        press("ArrowUp")  # in the empty box: edit
        expect(page.locator(".edit-text")).to_be_focused()
        press("Escape")
        expect(page.locator(".edit-text")).to_have_count(0)
        press("Alt+ArrowDown")
        expect(page.locator(".answer")).to_be_focused()
        press("/")
        self.assertEqual(page.evaluate(focused), "text")
        press("Shift+Enter")
        self.assertEqual(page.input_value("#text"), "\n")
        page.fill("#text", "")
        press("Control+Shift+O")
        expect(page.locator("#welcome")).to_be_visible()
        press("Control+k")
        self.assertEqual(page.evaluate(focused), "search")
        press("Tab")
        expect(page.locator(".item .open")).to_be_focused()
        press("Enter")
        expect(page.locator(".answer .text")).to_have_text("7")
        press("Control+b")
        expect(page.locator("#sidebar")).to_be_hidden()
        press("Control+b")
        expect(page.locator("#sidebar")).to_be_visible()
        press("Alt+t")
        expect(page.locator(".toggle")).to_have_attribute("aria-pressed", "true")
        page.locator(".answer").focus()
        press("?")
        expect(page.locator("dialog.help")).to_be_visible()
        self.shot("help")
        for _ in range(12):  # the focus stays inside
            press("Tab")
            self.assertTrue(page.evaluate("document.activeElement === document.body || !!document.activeElement.closest('dialog')"))
        press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        nameless = page.locator("button, input:not([hidden]), textarea").evaluate_all("""(all) => all.filter((e) =>
            !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map((e) => e.outerHTML)""")
        self.assertEqual(nameless, [])
        self.close()


class Refusals(Page):
    def test_asks_for_a_key(self):
        with Server(["--api-key", "open-sesame"]) as guarded:
            page = self.open(guarded.url, refused=("401",))
            page.fill("#key", "wrong")
            page.keyboard.press("Enter")
            expect(page.locator("dialog.key-dialog")).to_be_visible()
            page.fill("#key", "open-sesame")
            page.keyboard.press("Enter")
            expect(page.locator("dialog")).to_have_count(0)
            expect(page.locator("#model")).to_contain_text("demo")
            self.assertEqual(self.ask("What is 3 + 4?"), "7")
            self.close()

    def test_says_it_in_words_and_tries_again(self):
        with Server() as mortal:
            page = self.open(mortal.url, refused=("ERR_CONNECTION", "Failed to load", "net::"))
            expect(page.locator("#model")).to_contain_text("demo")
            mortal.stop()
            self.ask("What is 3 + 4?")
            expect(page.locator(".notice.error")).to_contain_text("cannot be reached")
            mortal.lines.clear()
            mortal.args[mortal.args.index("--port") + 1] = str(mortal.port)
            mortal.start()
            page.click(".notice button")
            expect(page.locator(".answer .text")).to_have_text("7")
            expect(page.locator(".answer")).to_have_count(1)
            expect(page.locator(".siblings")).to_have_count(0)
            self.close()

    def test_headers_and_tags(self):
        packed = {"Accept-Encoding": "gzip"}
        status, headers, data = server.request("/", headers=packed)
        self.assertEqual((status, headers["Content-Encoding"], data[:2]), (200, "gzip", b"\x1f\x8b"))
        self.assertEqual(headers["Content-Type"], "text/html; charset=utf-8")
        self.assertEqual(headers["X-Content-Type-Options"], "nosniff")
        self.assertEqual(headers["Referrer-Policy"], "no-referrer")
        policy = headers["Content-Security-Policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        for tag in (headers["ETag"], '"other", W/' + headers["ETag"], "*"):
            status, again, data = server.request("/", headers={**packed, "If-None-Match": tag})
            self.assertEqual((status, data, again["ETag"]), (304, b"", headers["ETag"]))
        status, _, _ = server.request("/", headers={**packed, "If-None-Match": '"other"'})
        self.assertEqual(status, 200)
        status, headers, _ = server.request("/assets/vendor/katex/fonts/KaTeX_Main-Regular.woff2", headers=packed)
        self.assertEqual((status, headers["Content-Type"], headers["Content-Encoding"]), (200, "font/woff2", None))
        self.assertEqual(server.request("/assets/app.js", headers={"Accept-Encoding": "identity"})[0], 406)
        for path in ("/assets/", "/assets/none.js", "/assets/../server/page.c", "/assets/%2e%2e/app.js", "/assets//app.js"):
            self.assertIn(server.request(path, headers=packed)[0], (400, 404), path)
        with Server(["--no-page"]) as bare:
            self.assertEqual(bare.request("/", headers=packed)[0], 404)


if __name__ == "__main__":
    unittest.main()
