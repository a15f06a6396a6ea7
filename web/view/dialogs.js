// SPDX-License-Identifier: Apache-2.0
// The dialogs: settings, keys of the keyboard, the API key, a picture at full size.
import { h, icon, iconButton } from '../dom.js';
import { addressOf } from '../attach.js';
import { changeSettings, parseTools, settings } from '../settings.js';

function open(dialog) {
    dialog.addEventListener('close', () => dialog.remove());
    dialog.addEventListener('click', (event) => {
        if (event.target === dialog) {
            dialog.close(); // beside it
        }
    });
    document.body.append(dialog);
    dialog.showModal();
    return dialog;
}

function frame(title, name, ...children) {
    const dialog = h('dialog', { class: name, 'aria-labelledby': `${name}-title` });
    dialog.append(h('header', {}, h('h2', { id: `${name}-title` }, title), iconButton('close', 'Close', () => dialog.close())), ...children);
    return dialog;
}

// A slider with a number beside it; empty is the model's own value.
function numberField(label, help, name, { min, max, step, slider }) {
    const value = settings[name];
    const number = h('input', { type: 'number', min, max: max ?? null, step, value: value ?? '', placeholder: 'auto', 'aria-label': label, id: `set-${name}` });
    const range = slider && h('input', { type: 'range', min, max, step, value: value ?? slider, tabindex: '-1', 'aria-hidden': 'true' });
    const take = (text) => {
        const given = Number(text);
        const isFine = text !== '' && Number.isFinite(given) && given >= min && (max === undefined || given <= max);
        number.setAttribute('aria-invalid', String(text !== '' && !isFine));
        if (isFine || text === '') {
            changeSettings({ [name]: text === '' ? null : given });
        }
    };
    number.addEventListener('input', () => {
        take(number.value);
        if (range) {
            range.value = number.value || slider;
        }
    });
    range?.addEventListener('input', () => {
        number.value = range.value;
        take(range.value);
    });
    return h('div', { class: 'field line' }, h('div', {}, h('label', { for: `set-${name}` }, label), h('small', {}, help)), range || null, number);
}

function choice(label, help, name, options, onchange) {
    const set = h('div', { class: 'choice', role: 'radiogroup', 'aria-label': label }, options.map(([value, text]) => h('label', {},
        h('input', { type: 'radio', name: `set-${name}`, value, checked: settings[name] === value, onchange: () => {
            changeSettings({ [name]: value });
            onchange?.();
        } }), h('span', {}, text))));
    return h('div', { class: 'field line' }, h('div', {}, h('span', { class: 'label' }, label), h('small', {}, help)), set);
}

// actions: system(text), themed(), keyed(), saveAll(), load(), clear()
export function openSettings(conversation, actions) {
    const system = h('textarea', { id: 'set-system', rows: '4', placeholder: 'For example: Answer briefly, and in plain words.', value: conversation.system });
    const forAll = h('input', { type: 'checkbox', checked: conversation.system !== '' && settings.system === conversation.system });
    const takeSystem = () => {
        actions.system(system.value);
        if (forAll.checked) {
            changeSettings({ system: system.value });
        }
    };
    system.addEventListener('input', takeSystem);
    forAll.addEventListener('change', () => changeSettings({ system: forAll.checked ? system.value : '' }));

    const toolsError = h('small', { class: 'wrong', role: 'alert' });
    const tools = h('textarea', { id: 'set-tools', rows: '4', spellcheck: 'false', value: settings.tools, class: 'mono',
        placeholder: '[{"name": "get_weather", "description": "The weather of a city.", "parameters": {…}}]' });
    tools.addEventListener('input', () => {
        try {
            parseTools(tools.value);
            changeSettings({ tools: tools.value });
            toolsError.textContent = '';
        } catch (error) {
            toolsError.textContent = error.message;
        }
    });
    const key = h('input', { type: 'password', id: 'set-key', autocomplete: 'off', value: settings.key, onchange: () => {
        changeSettings({ key: key.value.trim() });
        actions.keyed();
    } });

    const dialog = frame('Settings', 'settings', h('div', { class: 'body' },
        h('section', {}, h('h3', {}, 'Instructions'),
            h('div', { class: 'field' }, h('label', { for: 'set-system' }, 'What the model should keep in mind in this chat'), system,
                h('label', { class: 'check' }, forAll, 'Also in new chats'))),
        h('section', {}, h('h3', {}, 'Answers'),
            numberField('Temperature', 'Lower is more predictable, higher more varied', 'temperature', { min: 0, max: 2, step: 0.05, slider: 1 }),
            numberField('Top-p', 'Leaves out the least likely words', 'topP', { min: 0, max: 1, step: 0.01, slider: 0.95 }),
            numberField('Top-k', 'Chooses among so many words at most', 'topK', { min: 0, max: 1000, step: 1 }),
            numberField('Longest answer', 'In tokens; a token is about three quarters of a word', 'tokensMax', { min: 1, step: 1 }),
            numberField('Seed', 'The same number gives the same answer again', 'seed', { min: 0, step: 1 })),
        h('section', {}, h('h3', {}, 'Pictures'),
            choice('Detail', 'High reads small print and takes longer', 'detail', [['auto', 'Auto'], ['low', 'Low'], ['high', 'High']])),
        h('section', {}, h('h3', {}, 'Appearance'),
            choice('Colours', '', 'theme', [['auto', 'Like the system'], ['light', 'Light'], ['dark', 'Dark']], actions.themed)),
        h('section', {}, h('h3', {}, 'Your chats'), h('div', { class: 'row' },
            h('button', { type: 'button', onclick: actions.saveAll }, 'Export all'),
            h('button', { type: 'button', onclick: actions.load }, 'Import…'),
            h('button', { type: 'button', class: 'danger', onclick: () => { dialog.close(); actions.clear(); } }, 'Delete all'))),
        h('section', {}, h('h3', {}, 'For developers'),
            h('div', { class: 'field' }, h('label', { for: 'set-tools' }, 'Tools the model may call'), tools, toolsError,
                h('small', {}, 'JSON as OpenAI takes it. The page shows the calls and asks you for the results.')),
            h('div', { class: 'field' }, h('label', { for: 'set-key' }, 'API key'), key, h('small', {}, 'Only if the server asks for one; it stays in this browser.')))));
    return open(dialog);
}

const KEYS = [
    ['Enter', 'Send'],
    ['Shift Enter', 'New line'],
    ['Esc', 'Stop the answer, close a dialog'],
    ['↑', 'In the empty box: edit your last message'],
    ['/', 'To the message box'],
    ['Alt ↑  Alt ↓', 'From message to message'],
    ['Ctrl Shift O', 'New chat'],
    ['Ctrl K', 'Search the chats'],
    ['Ctrl B', 'Show or hide the list of chats'],
    ['Ctrl ,', 'Settings'],
    ['Alt R', 'Record; once more to stop'],
    ['Alt T', 'Think before answering, or not'],
    ['F2  Delete', 'In the list: rename, delete'],
    ['?', 'This help'],
];

export function openHelp(about) {
    const isMac = /Mac|iPhone|iPad/.test(navigator.platform);
    const keys = KEYS.map(([names, what]) => h('div', { class: 'key' }, h('dt', {},
        names.split('  ').map((combination, i) => [i ? ' ' : null, combination.split(' ').map((name) => h('kbd', {}, isMac && name === 'Ctrl' ? '⌘' : name))])), h('dd', {}, what)));
    return open(frame('Help', 'help', h('div', { class: 'body' },
        h('p', {}, 'Drop or paste pictures, sounds, films and texts anywhere. What you record is heard while you speak. It goes to this server and to nobody else; chats are kept in this browser.'),
        h('h3', {}, 'Keyboard'), h('dl', { class: 'keys' }, keys),
        h('h3', {}, 'About'), h('p', { class: 'about' }, about.join(' · ')),
        h('p', {}, h('small', {}, 'Made with ', ['marked', 'dompurify', 'katex', 'highlight'].map((name, i) => [i ? ', ' : '',
            h('a', { href: `assets/vendor/${name}/LICENSE`, target: '_blank', rel: 'noopener' }, name)]), '.')))));
}

export function askKey(onKey) {
    if (document.querySelector('dialog.key-dialog')) {
        return;
    }
    const input = h('input', { type: 'password', id: 'key', autocomplete: 'off', 'aria-label': 'API key' });
    const take = () => {
        changeSettings({ key: input.value.trim() });
        dialog.close();
        onKey();
    };
    input.addEventListener('keydown', (event) => {
        if (event.key === 'Enter') {
            event.preventDefault();
            take();
        }
    });
    const dialog = frame('This server wants an API key', 'key-dialog', h('div', { class: 'body' },
        h('p', {}, 'Whoever runs the server can give you one. It stays in this browser.'),
        h('div', { class: 'field' }, input),
        h('div', { class: 'row end' }, h('button', { type: 'button', class: 'primary', onclick: take }, 'Continue'))));
    open(dialog);
    input.focus();
}

export function openPicture(part) {
    const dialog = h('dialog', { class: 'lightbox', 'aria-label': part.name }, h('img', { src: addressOf(part.blob), alt: part.name }),
        iconButton('close', 'Close', () => dialog.close()));
    dialog.querySelector('img').addEventListener('click', () => dialog.close());
    open(dialog);
}

// A menu below a button: items are [icon, label, act].
export function openMenu(button, items) {
    const menu = h('div', { class: 'menu', role: 'menu' });
    const close = (event) => {
        if (!event || (!menu.contains(event.target) && !button.contains(event.target))) {
            menu.remove();
            button.setAttribute('aria-expanded', 'false');
            removeEventListener('pointerdown', close, true);
        }
    };
    menu.append(...items.map(([name, label, act]) => h('button', { type: 'button', role: 'menuitem', onclick: () => {
        close();
        button.focus();
        act();
    } }, icon(name), label)));
    menu.addEventListener('keydown', (event) => {
        const all = [...menu.children];
        const i = all.indexOf(document.activeElement);
        if (event.key === 'Escape' || event.key === 'Tab') {
            event.preventDefault();
            event.stopPropagation();
            close();
            button.focus();
        } else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
            event.preventDefault();
            all[(i + (event.key === 'ArrowDown' ? 1 : all.length - 1)) % all.length].focus();
        }
    });
    button.parentElement.append(menu);
    button.setAttribute('aria-expanded', 'true');
    addEventListener('pointerdown', close, true);
    menu.firstElementChild.focus();
}
