// SPDX-License-Identifier: Apache-2.0
// The conversation as it is seen: one article a message. While an answer grows only its own texts
// change, at most once a frame, and less often where that takes long.
import { announce, formatClock, formatSeconds, formatSize, h, icon, iconButton } from '../dom.js';
import { addressOf } from '../attach.js';
import { pathOf, siblingsOf } from '../conversation.js';
import { copyText, renderMarkdown } from '../markdown.js';

const NOTES = {
    user: 'Stopped.',
    length: 'Cut off: the limit of tokens was reached.',
    loop: 'Stopped: the model was repeating itself.',
    time: 'Cut off: the time for one answer was over.',
    error: 'This answer was not completed.',
};

export class MessagesView {
    // actions: again(node), edit(node, text), select(node), results(node), openPicture(part)
    constructor(scroller, list, actions) {
        Object.assign(this, { scroller, list, actions });
        this.isFollowing = true;
        this.isPending = false;
        this.pause = 0; // ms before the next time
        this.run = null;
        this.articles = new Map();
        scroller.addEventListener('scroll', () => {
            this.isFollowing = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
            document.getElementById('to-end').hidden = this.isFollowing;
        }, { passive: true });
        // Pictures and films take their height when they are loaded.
        new ResizeObserver(() => this.follow()).observe(list);
    }

    // run: the answer that is being written in this conversation, or null
    show(conversation, run) {
        this.conversation = conversation;
        this.run = run;
        this.articles.clear();
        const path = pathOf(conversation).filter((node) => node.role !== 'tool');
        this.list.replaceChildren(...path.map((node) => this.article(node)));
        this.isFollowing = true;
        this.follow();
    }

    follow() {
        if (this.isFollowing) {
            this.scroller.scrollTop = this.scroller.scrollHeight;
        }
    }

    toEnd() {
        this.isFollowing = true;
        this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior: 'smooth' });
    }

    // The answer grew.
    grow(node) {
        if (this.isPending) {
            return;
        }
        this.isPending = true;
        setTimeout(() => requestAnimationFrame(() => {
            this.isPending = false;
            const article = this.articles.get(node.id);
            if (article?.isConnected && this.run?.node === node) {
                const start = performance.now();
                article.fill(false);
                this.follow();
                this.pause = 3 * (performance.now() - start);
            }
        }), this.pause);
    }

    // The answer is complete.
    end(node) {
        this.run = null;
        const old = this.articles.get(node.id);
        if (old?.isConnected) {
            const hadFocus = old.contains(document.activeElement);
            const article = this.article(node);
            old.replaceWith(article);
            if (hadFocus) {
                article.focus();
            }
            this.follow();
        }
        announce(node.error ? `Error: ${node.error}` : 'The answer is complete.');
    }

    article(node) {
        const article = node.role === 'user' ? this.userArticle(node) : this.answerArticle(node);
        this.articles.set(node.id, article);
        return article;
    }

    userArticle(node) {
        const article = h('article', { class: 'message user', tabindex: '-1', 'aria-label': 'You', 'data-id': node.id });
        const parts = node.parts?.length ? h('div', { class: 'parts' }, node.parts.map((part) => partView(part, this.actions.openPicture))) : null;
        const text = node.text ? h('div', { class: 'bubble' }, node.text) : null;
        article.append(...[parts, text, h('footer', { class: 'tools' },
            this.siblingSwitch(node),
            node.text ? this.copyButton(node) : null,
            iconButton('pencil', 'Edit and send again', () => this.edit(node, article)))].filter(Boolean));
        return article;
    }

    edit(node, article) {
        const area = h('textarea', { class: 'edit-text', 'aria-label': 'Message', rows: '3', value: node.text });
        const leave = () => {
            const again = this.article(node);
            article.replaceWith(again);
            again.focus();
        };
        const send = () => this.actions.edit(node, area.value.trim());
        const form = h('div', { class: 'edit' }, area, h('div', { class: 'row' },
            h('button', { type: 'button', class: 'plain', onclick: leave }, 'Cancel'),
            h('button', { type: 'button', class: 'primary', onclick: send }, 'Send')));
        area.addEventListener('keydown', (event) => {
            if (event.key === 'Escape') {
                event.stopPropagation();
                leave();
            } else if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
                event.preventDefault();
                send();
            }
        });
        article.querySelector('.bubble')?.remove();
        article.querySelector('footer').replaceWith(form);
        area.focus();
    }

    answerArticle(node) {
        const isRunning = this.run?.node === node;
        const article = h('article', { class: 'message answer', tabindex: '-1', 'aria-label': 'carat', 'data-id': node.id, 'aria-busy': isRunning ? 'true' : 'false' });
        const thoughtText = h('div', { class: 'thought-text markdown' });
        const thoughtTitle = h('span', {});
        const thought = h('details', { class: 'thought', open: isRunning }, h('summary', {}, icon('think'), thoughtTitle, icon('down')), thoughtText);
        const text = h('div', { class: 'markdown text' });
        const calls = h('div', { class: 'calls' });
        const waiting = h('p', { class: 'waiting' }, h('span', { class: 'dot' }), h('span', { class: 'dot' }), h('span', { class: 'dot' }));
        article.append(thought, text, calls, waiting);

        let isFolded = !isRunning;
        article.fill = (isWhole) => {
            thought.hidden = !node.thought;
            if (node.thought && (!isFolded || !thoughtText.firstChild)) {
                renderMarkdown(thoughtText, node.thought, isWhole);
            }
            thoughtTitle.textContent = node.thoughtSeconds === undefined ? 'Thinking' : `Thought for ${formatSeconds(node.thoughtSeconds)}`;
            if (!isFolded && node.thoughtSeconds !== undefined) {
                isFolded = true;
                thought.open = false; // once: who opens it again wants to see it
            }
            renderMarkdown(text, node.text, isWhole);
            calls.replaceChildren(...node.calls.filter(Boolean).map((call) => this.callView(node, call, isWhole)));
            waiting.hidden = isWhole || node.text !== '' || node.calls.length > 0;
        };
        article.fill(!isRunning);
        if (!isRunning) {
            article.append(...[this.noteView(node), this.answerFooter(node)].filter(Boolean));
        }
        return article;
    }

    noteView(node) {
        if (node.error) {
            return h('div', { class: 'notice error', role: 'alert' }, h('span', {}, node.error),
                h('button', { type: 'button', onclick: () => this.actions.again(node) }, 'Try again'));
        }
        const isEmpty = !node.text && !node.calls.length;
        const note = NOTES[node.stop] || (isEmpty ? 'The model answered with nothing.' : '');
        return note ? h('p', { class: 'notice' }, note) : null;
    }

    answerFooter(node) {
        return h('footer', { class: 'tools' },
            this.siblingSwitch(node),
            node.text ? this.copyButton(node) : null,
            iconButton('again', 'Answer again', () => this.actions.again(node)),
            statsView(node.stats));
    }

    copyButton(node) {
        const button = iconButton('copy', 'Copy', async () => {
            if (await copyText(node.text)) {
                button.replaceChildren(icon('check'));
                announce('Copied');
                setTimeout(() => button.replaceChildren(icon('copy')), 1500);
            }
        });
        return button;
    }

    siblingSwitch(node) {
        const all = siblingsOf(this.conversation, node);
        if (all.length < 2) {
            return null;
        }
        const i = all.indexOf(node);
        const go = (to) => () => this.actions.select(all[to]);
        return h('span', { class: 'siblings' },
            iconButton('left', 'Previous version', go(i - 1), { disabled: i === 0 }),
            `${i + 1}/${all.length}`,
            iconButton('right', 'Next version', go(i + 1), { disabled: i === all.length - 1 }));
    }

    callView(node, call, isWhole) {
        let given;
        try {
            given = Object.entries(JSON.parse(call.arguments || '{}'));
        } catch {
            given = [['arguments', call.arguments]];
        }
        const list = h('dl', {}, given.map(([name, value]) => [h('dt', {}, name),
            h('dd', {}, typeof value === 'string' ? value : JSON.stringify(value))]));
        const view = h('details', { class: 'call', open: true },
            h('summary', {}, icon('tool'), h('span', {}, 'Calls ', h('strong', {}, call.name)), icon('down')), list);
        if (call.result !== null) {
            view.append(h('p', { class: 'result' }, h('span', { class: 'label' }, 'Result'), call.result));
        } else if (isWhole) {
            view.append(this.resultForm(node, call));
        }
        return view;
    }

    // The page runs no tools: it shows what the model asks for and takes the result from the user.
    resultForm(node, call) {
        const area = h('textarea', { rows: '2', 'aria-label': `Result of ${call.name}`, placeholder: 'What did it give? Text or JSON' });
        const give = () => {
            call.result = area.value.trim();
            this.actions.results(node);
        };
        area.addEventListener('keydown', (event) => {
            if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
                event.preventDefault();
                give();
            }
        });
        return h('div', { class: 'result-form' }, area, h('button', { type: 'button', class: 'primary', onclick: give }, 'Give result'));
    }
}

function statsView(stats) {
    if (!stats?.tokens) {
        return null;
    }
    const short = [];
    const long = [`${stats.tokens} tokens written`];
    if (stats.rate) {
        short.push(`${stats.rate < 10 ? stats.rate.toFixed(1) : Math.round(stats.rate)} tokens/s`);
    }
    short.push(`${stats.tokens} ${stats.tokens === 1 ? 'token' : 'tokens'}`);
    if (stats.thoughtTokens) {
        long.push(`${stats.thoughtTokens} of them thoughts`);
    }
    if (stats.promptTokens) {
        long.push(`${stats.promptTokens} tokens read, ${stats.cachedTokens || 0} of them known from before`);
        if (stats.cachedTokens) {
            short.push(`${stats.cachedTokens} of ${stats.promptTokens} cached`);
        }
    }
    if (stats.firstSeconds !== undefined) {
        long.push(`first word after ${formatSeconds(stats.firstSeconds)}`);
    }
    return h('span', { class: 'stats', title: long.join('\n') }, short.join(' · '));
}

export function partView(part, openPicture) {
    const chip = (name) => h('span', { class: 'chip', title: part.name }, icon(name), h('span', { class: 'name' }, part.name),
        part.size ? h('small', {}, formatSize(part.size)) : null);
    if (part.kind === 'image') {
        const picture = h('img', { src: addressOf(part.blob), alt: part.name });
        const button = h('button', { type: 'button', class: 'picture', title: part.name, onclick: () => openPicture(part) }, picture);
        picture.addEventListener('error', () => button.replaceWith(chip('file'))); // HEIC, TIFF: only the server can
        return button;
    }
    if (part.kind === 'audio') {
        return h('figure', { class: 'sound' }, h('audio', { controls: true, preload: 'metadata', src: addressOf(part.blob), title: part.name }),
            h('figcaption', {}, part.name, part.seconds ? ` · ${formatClock(part.seconds)}` : null));
    }
    if (part.kind === 'video') {
        const film = h('video', { controls: true, preload: 'metadata', playsinline: true, src: addressOf(part.blob), title: part.name });
        film.addEventListener('error', () => film.replaceWith(chip('film')));
        return film;
    }
    return chip('file');
}
