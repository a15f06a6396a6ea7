// SPDX-License-Identifier: Apache-2.0
// What a model writes, as elements. Marked reads the Markdown, DOMPurify keeps of its HTML what is in
// the list below, and only then do highlight.js and KaTeX put colours and formulas in. Pictures are not
// loaded: an address in an answer is a way to send something out.
import './vendor/dompurify/purify.min.js';
import './vendor/katex/katex.min.js';
import hljs from './vendor/highlight/highlight.min.js';
import { Marked } from './vendor/marked/marked.esm.js';
import { h, icon } from './dom.js';

const { DOMPurify, katex } = globalThis;

const TAGS = ('a b blockquote br code dd del details dl dt em h1 h2 h3 h4 h5 h6 hr i input ins kbd li mark ol p pre '
    + 's samp span strong sub summary sup table tbody td tfoot th thead tr u ul var').split(' ');
const ATTRIBUTES = 'align checked class colspan href open rowspan start title type'.split(' ');
const RULES = {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ADD_URI_SAFE_ATTR: ATTRIBUTES.filter((name) => name !== 'href'),
    ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
    RETURN_DOM_FRAGMENT: true,
};
const OUR_CLASSES = /^(language-[\w+#.-]+|math-inline|math-block|hljs[\w-]*|[a-z]+_)$/;
const HIGHLIGHT_MAX = 60000; // characters; more stays plain
const KATEX_RULES = { throwOnError: true, trust: false, strict: 'ignore', maxSize: 40, maxExpand: 300 };

function escape(text) {
    return text.replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);
}

// HTML in an answer is shown as it is written, but for a few tags without attributes. It would be
// enough to let DOMPurify have it, but the browser reports each handler and style it meets on the way.
function plainTags(html) {
    return escape(html.replace(/<!--[^]*?(?:-->|$)/g, ''))
        .replace(/&lt;(\/?(?:b|br|del|details|em|hr|i|ins|kbd|mark|s|small|strong|sub|summary|sup|u))\s*\/?&gt;/gi, '<$1>');
}

// Lengths are bounded: an opener without its end must not cost a look at all that follows.
const BLOCK = /^ {0,3}(?:\$\$([^]{1,8000}?)\$\$|\\\[([^]{1,8000}?)\\\])[ \t]*(?:\n|$)/;
const DISPLAY = /^(?:\$\$([^]{1,4000}?)\$\$|\\\[([^]{1,4000}?)\\\])/;
// "$5 and $10" is money: no space inside the dollars, no digit behind them.
const INLINE = /^(?:\\\(([^]{1,4000}?)\\\)|\$(?![\s$])((?:\\[^]|[^\\$\n]){1,1000}?)(?<!\s)\$(?![\d$]))/;

const mathBlock = {
    name: 'mathBlock',
    level: 'block',
    start: (text) => /^ {0,3}(?:\$\$|\\\[)/m.exec(text)?.index,
    tokenizer(text) {
        const match = BLOCK.exec(text);
        return match ? { type: 'mathBlock', raw: match[0], text: match[1] ?? match[2] } : undefined;
    },
    renderer: (token) => `<p><span class="math-block">${escape(token.text.trim())}</span></p>`,
};

const mathInline = {
    name: 'mathInline',
    level: 'inline',
    start: (text) => /\$|\\[([]/.exec(text)?.index,
    tokenizer(text) {
        const display = DISPLAY.exec(text);
        const match = display || INLINE.exec(text);
        return match ? { type: 'mathInline', raw: match[0], text: match[1] ?? match[2], isBlock: !!display } : undefined;
    },
    renderer: (token) => `<span class="math-${token.isBlock ? 'block' : 'inline'}">${escape(token.text.trim())}</span>`,
};

const marked = new Marked({
    gfm: true,
    breaks: true,
    extensions: [mathBlock, mathInline],
    renderer: {
        html: ({ text }) => plainTags(text),
        image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
    },
});

// Shows the text in target. Blocks that did not change since the last time stay as they are, so that
// a growing answer keeps its selection and costs only its last block. isWhole: the text will not grow.
export function renderMarkdown(target, text, isWhole) {
    let tokens;
    try {
        tokens = marked.lexer(text).filter((token) => token.type !== 'space' && token.type !== 'def');
    } catch {
        target.replaceChildren(h('p', { class: 'as-it-is' }, text)); // too deeply nested to read
        return;
    }
    tokens.forEach((token, i) => {
        const old = target.children[i];
        if (old && old.source === token.raw && !isWhole) {
            return;
        }
        const block = renderBlock(token);
        block.source = token.raw;
        if (old) {
            old.replaceWith(block);
        } else {
            target.append(block);
        }
    });
    while (target.children.length > tokens.length) {
        target.lastElementChild.remove();
    }
}

function renderBlock(token) {
    const block = h('div', { class: 'block' });
    try {
        block.append(clean(marked.parser([token])));
        finish(block);
    } catch {
        block.textContent = token.raw;
    }
    return block;
}

function clean(html) {
    const fragment = DOMPurify.sanitize(html, RULES);
    for (const element of fragment.querySelectorAll('[class]')) {
        // Names of the page's own parts would let an answer dress up as one.
        element.className = [...element.classList].filter((name) => OUR_CLASSES.test(name)).join(' ');
    }
    for (const input of fragment.querySelectorAll('input')) {
        input.type = 'checkbox';
        input.disabled = true;
    }
    for (const link of fragment.querySelectorAll('a[href]')) {
        link.target = '_blank';
        link.rel = 'noopener noreferrer nofollow';
    }
    return fragment;
}

function finish(block) {
    for (const code of block.querySelectorAll('pre > code')) {
        code.parentElement.replaceWith(codeBlock(code));
    }
    for (const table of block.querySelectorAll('table')) {
        const frame = h('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' });
        table.replaceWith(frame);
        frame.append(table);
    }
    for (const span of block.querySelectorAll('.math-inline, .math-block')) {
        formula(span);
    }
}

function codeBlock(code) {
    const text = code.textContent.replace(/\n$/, '');
    const language = /language-(\S+)/.exec(code.className)?.[1] || '';
    const shown = h('code', { class: 'hljs' });
    const colours = language && text.length <= HIGHLIGHT_MAX && hljs.getLanguage(language);
    if (colours) {
        shown.append(clean(hljs.highlight(text, { language, ignoreIllegals: true }).value));
    } else {
        shown.textContent = text;
    }
    const copy = h('button', { type: 'button', class: 'copy-code', onclick: () => copyText(text, copy) }, icon('copy'), h('span', {}, 'Copy'));
    return h('figure', { class: 'code' },
        h('figcaption', {}, h('span', {}, (colours && hljs.getLanguage(language).name) || language || 'Text'), copy),
        h('pre', { tabindex: '0' }, shown));
}

// KaTeX builds elements and sets their style through the object model, which the policy allows. The
// two commands that would need a style attribute go without the copy for screen readers.
function formula(span) {
    const tex = span.textContent;
    const isBlock = span.classList.contains('math-block');
    const output = /\\(pmb|fcolorbox)/.test(tex) ? 'html' : 'htmlAndMathml';
    const shown = h('span', { class: isBlock ? 'formula block-formula' : 'formula' });
    try {
        katex.render(tex, shown, { ...KATEX_RULES, displayMode: isBlock, output });
    } catch {
        shown.replaceChildren(h('code', {}, tex)); // not finished yet, or no TeX
    }
    span.replaceWith(shown);
}

export async function copyText(text, button) {
    let isCopied = true;
    try {
        await navigator.clipboard.writeText(text);
    } catch {
        // No clipboard without a secure context: the old way.
        const area = h('textarea', { class: 'hidden-text', value: text });
        document.body.append(area);
        area.select();
        isCopied = document.execCommand('copy');
        area.remove();
        button?.focus();
    }
    const label = button?.querySelector('span');
    if (label) {
        label.textContent = isCopied ? 'Copied' : 'Not allowed';
        setTimeout(() => { label.textContent = 'Copy'; }, 1500);
    }
    return isCopied;
}
