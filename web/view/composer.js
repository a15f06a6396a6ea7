// SPDX-License-Identifier: Apache-2.0
// Where a message is made: text, files, the microphone and the camera.
import { announce, formatClock, h, icon, iconButton, toast } from '../dom.js';
import { ACCEPT, addressOf, filesOf, partOf } from '../attach.js';
import { ReadAhead } from '../chat.js';
import { Recorder, deviceError, whyNoDevices } from '../record.js';
import { changeSettings, settings } from '../settings.js';
import { takePhoto } from './camera.js';

export class Composer {
    // actions: send(text, parts), stop(), editLast(), where() -> {conversation, model}
    constructor(root, actions) {
        this.actions = actions;
        this.parts = [];
        this.isRunning = false;
        this.recorder = null;

        this.text = h('textarea', { id: 'text', rows: '1', placeholder: 'Ask anything', 'aria-label': 'Message', autocomplete: 'off' });
        this.tray = h('div', { class: 'tray', role: 'list', 'aria-label': 'Attached' });
        this.chooser = h('input', { type: 'file', multiple: true, hidden: true, accept: ACCEPT, onchange: () => this.takeChosen() });
        this.thinks = h('button', { type: 'button', class: 'toggle', title: 'Think before answering', onclick: () => this.setThinking(!settings.thinks) }, icon('think'), h('span', {}, 'Think'));
        this.send = h('button', { type: 'button', class: 'send', id: 'send', onclick: () => this.sendOrStop() });
        this.row = h('div', { class: 'row' },
            iconButton('plus', 'Attach files', () => this.chooser.click(), { id: 'attach' }),
            iconButton('camera', 'Take a picture', () => this.photograph(), { id: 'camera' }),
            iconButton('mic', 'Record sound', () => this.record(), { id: 'record' }),
            this.thinks, h('span', { class: 'gap' }), this.send);
        this.strip = h('div', { class: 'row strip', hidden: true });
        root.append(this.tray, this.text, this.row, this.strip, this.chooser);

        this.text.addEventListener('input', () => this.refresh());
        this.text.addEventListener('keydown', (event) => this.key(event));
        document.addEventListener('paste', (event) => this.paste(event));
        this.listenToDrops();
        this.setThinking(settings.thinks);
        this.refresh();
    }

    focus() {
        this.text.focus();
    }

    setThinking(thinks) {
        changeSettings({ thinks });
        this.thinks.setAttribute('aria-pressed', String(thinks));
    }

    setRunning(isRunning) {
        this.isRunning = isRunning;
        this.refresh();
    }

    setText(text) {
        this.text.value = text;
        this.refresh();
        this.focus();
    }

    refresh() {
        this.text.style.height = 'auto';
        this.text.style.height = `${Math.min(this.text.scrollHeight, 0.4 * innerHeight)}px`;
        const isEmpty = !this.text.value.trim() && !this.parts.length;
        const label = this.isRunning ? 'Stop' : 'Send';
        this.send.disabled = !this.isRunning && isEmpty && !this.recorder;
        if (this.send.title !== label) {
            this.send.title = label;
            this.send.setAttribute('aria-label', label);
            this.send.replaceChildren(icon(this.isRunning ? 'stop' : 'send'));
        }
    }

    key(event) {
        if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
            event.preventDefault();
            if (!this.isRunning) {
                this.sendOrStop();
            }
        } else if (event.key === 'ArrowUp' && !this.text.value) {
            event.preventDefault();
            this.actions.editLast();
        }
    }

    async sendOrStop() {
        if (this.isRunning) {
            this.actions.stop();
            return;
        }
        if (this.recorder) {
            await this.endRecording(true);
        }
        const text = this.text.value.trim();
        if (!text && !this.parts.length) {
            return;
        }
        const parts = this.parts;
        this.parts = [];
        this.text.value = '';
        this.showTray();
        this.actions.send(text, parts);
    }

    // Files

    async add(files) {
        for (const file of files) {
            try {
                this.parts.push(await partOf(file));
            } catch (error) {
                toast(error.message);
            }
        }
        this.showTray();
        this.focus();
    }

    takeChosen() {
        this.add([...this.chooser.files]).then(() => { this.chooser.value = ''; });
    }

    choose() {
        this.chooser.click();
    }

    paste(event) {
        const files = filesOf(event.clipboardData);
        if (files.length && !document.querySelector('dialog[open]')) {
            event.preventDefault();
            this.add(files);
        }
    }

    listenToDrops() {
        const cover = document.getElementById('drop');
        let depth = 0;
        const hasFiles = (event) => [...(event.dataTransfer?.types || [])].includes('Files');
        const show = (n) => {
            depth = Math.max(0, n);
            cover.hidden = depth === 0;
        };
        addEventListener('dragenter', (event) => hasFiles(event) && show(depth + 1));
        addEventListener('dragleave', (event) => hasFiles(event) && show(depth - 1));
        addEventListener('dragover', (event) => hasFiles(event) && event.preventDefault());
        addEventListener('drop', (event) => {
            if (hasFiles(event)) {
                event.preventDefault();
                show(0);
                this.add(filesOf(event.dataTransfer));
            }
        });
    }

    showTray() {
        this.tray.replaceChildren(...this.parts.map((part) => h('div', { class: 'part', role: 'listitem', title: part.name },
            thumbnail(part),
            iconButton('close', `Remove ${part.name}`, () => {
                this.parts = this.parts.filter((other) => other !== part);
                this.showTray();
                this.focus();
            }))));
        this.refresh();
    }

    async photograph() {
        const why = whyNoDevices();
        if (why) {
            toast(why);
            return;
        }
        const file = await takePhoto();
        if (file) {
            await this.add([file]);
        }
    }

    // The microphone

    async record() {
        const why = whyNoDevices();
        if (why || this.recorder) {
            toast(why || 'Recording already.');
            return;
        }
        const recorder = new Recorder();
        this.recorder = recorder;
        const bars = Array.from({ length: 28 }, () => h('i', {}));
        const clock = h('span', { class: 'clock' }, '0:00');
        const heard = h('span', { class: 'heard' });
        const { conversation, model } = this.actions.where();
        this.ahead = new ReadAhead(conversation, model, this.parts, recorder, (seconds) => {
            heard.textContent = `heard ${formatClock(seconds)}`;
        });
        try {
            await recorder.start((level, seconds) => {
                bars.push(bars.shift());
                bars.at(-1).style.height = `${Math.max(10, 100 * level)}%`;
                bars.at(-1).parentElement?.append(bars.at(-1));
                clock.textContent = formatClock(seconds);
                this.ahead.tick();
            });
        } catch (error) {
            this.recorder = null;
            toast(deviceError(error, 'microphone'));
            return;
        }
        this.strip.replaceChildren(
            iconButton('close', 'Discard the recording', () => this.endRecording(false)),
            h('span', { class: 'light' }), clock, h('span', { class: 'bars', 'aria-hidden': 'true' }, bars), heard,
            h('span', { class: 'gap' }),
            h('button', { type: 'button', class: 'plain', id: 'record-done', onclick: () => this.endRecording(true) }, 'Done'),
            h('button', { type: 'button', class: 'send', 'aria-label': 'Stop recording and send', title: 'Stop recording and send', onclick: () => this.sendOrStop() }, icon('send')));
        this.strip.hidden = false;
        this.row.hidden = true;
        announce('Recording');
    }

    async endRecording(isKept) {
        const recorder = this.recorder;
        if (!recorder) {
            return;
        }
        this.recorder = null;
        await recorder.stop();
        this.strip.hidden = true;
        this.row.hidden = false;
        if (isKept && recorder.seconds > 0.2) {
            this.parts.push(recorder.part());
            this.showTray();
            await this.ahead.end();
        } else {
            this.ahead.cancel();
        }
        this.focus();
        announce(isKept ? 'Recording attached' : 'Recording discarded');
    }
}

function thumbnail(part) {
    if (part.kind === 'image') {
        const picture = h('img', { src: addressOf(part.blob), alt: part.name });
        picture.addEventListener('error', () => picture.replaceWith(h('span', { class: 'chip' }, icon('file'), h('span', { class: 'name' }, part.name))));
        return picture;
    }
    if (part.kind === 'audio') {
        return h('audio', { controls: true, src: addressOf(part.blob), preload: 'metadata' });
    }
    const name = part.kind === 'video' ? 'film' : 'file';
    return h('span', { class: 'chip' }, icon(name), h('span', { class: 'name' }, part.name));
}
