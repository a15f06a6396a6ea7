// SPDX-License-Identifier: Apache-2.0
// Puts the page together: which conversation is shown, which answers are being written, what the
// buttons and keys do.
import { listModels, readMetrics, readVersion } from './api.js';
import { startAnswer } from './chat.js';
import { addNode, newConversation, pathOf, selectNode, titleOf } from './conversation.js';
import { formatSize, h, icon, iconButton, toast } from './dom.js';
import { download, fileNameOf, fromJson, toJson, toMarkdown } from './exchange.js';
import { applySettings, changeSettings, isDark, settings } from './settings.js';
import { forget, forgetAll, isKept, keep, openStore, readSetting, writeSetting } from './store.js';
import { Composer } from './view/composer.js';
import { askKey, openHelp, openMenu, openPicture, openSettings } from './view/dialogs.js';
import { MessagesView } from './view/messages.js';
import { Sidebar } from './view/sidebar.js';

const at = (id) => document.getElementById(id);

const state = {
    conversations: [],
    current: newConversation(settings.system),
    runs: new Map(), // conversation id -> the answer being written
    model: '',
    about: [],
};

const messages = new MessagesView(at('scroller'), at('messages'), {
    again: (node) => answerAgain(node),
    edit: (node, text) => editMessage(node, text),
    select: (node) => { selectNode(state.current, node.id); changed(state.current); show(); },
    results: (node) => giveResults(node),
    openPicture,
});
const sidebar = new Sidebar(at('chats'), at('search'), {
    open: (conversation) => { open(conversation); closeSidebarOnPhone(); },
    rename: (conversation, title) => { conversation.title = title; changed(conversation); list(); showTop(); },
    remove: (conversation) => remove(conversation),
    save: (conversation) => save([conversation], fileNameOf(conversation, 'json')),
});
const composer = new Composer(at('composer'), {
    send: (text, parts) => send(text, parts),
    stop: () => state.runs.get(state.current.id)?.stop(),
    editLast: () => editLast(),
    where: () => ({ conversation: state.current, model: state.model }),
});

// Showing

function show() {
    const run = state.runs.get(state.current.id) || null;
    messages.show(state.current, run);
    const isEmpty = !pathOf(state.current).length;
    at('welcome').hidden = !isEmpty;
    document.body.classList.toggle('is-empty', isEmpty);
    composer.setRunning(!!run);
    showTop();
    list();
}

function list() {
    sidebar.show(state.conversations, state.current, state.runs);
}

function showTop() {
    const title = titleOf(state.current);
    at('title').textContent = title;
    at('title').title = title;
    document.title = state.current.nodes.length ? `${title} – carat` : 'carat';
    at('system-mark').hidden = !state.current.system.trim();
}

function open(conversation) {
    state.current = conversation;
    writeSetting('current', conversation.id);
    show();
    composer.focus();
}

function startNew() {
    open(newConversation(settings.system));
    closeSidebarOnPhone();
}

async function changed(conversation) {
    if (!state.conversations.includes(conversation)) {
        return;
    }
    if (!await keep(conversation) && !state.hasSaidUnkept) {
        state.hasSaidUnkept = true;
        toast(isKept() ? 'The browser has no room to keep this chat: export it if you need it.'
            : 'The browser does not let this page keep anything: chats are gone when you close it.');
    }
}

// Messages

function send(text, parts) {
    const conversation = state.current;
    if (!state.conversations.includes(conversation)) {
        state.conversations.push(conversation);
    }
    const node = addNode(conversation, conversation.leaf, { role: 'user', text, ...(parts.length ? { parts } : {}) });
    answer(conversation, node.id);
}

function answer(conversation, parent) {
    state.runs.get(conversation.id)?.stop();
    const run = startAnswer(conversation, parent, state.model, (isEnd) => {
        const isShown = state.current === conversation;
        if (!isEnd) {
            if (isShown) {
                messages.grow(run.node);
            }
            return;
        }
        if (state.runs.get(conversation.id) === run) {
            state.runs.delete(conversation.id);
            if (isShown) {
                messages.end(run.node);
                composer.setRunning(false);
            }
        }
        changed(conversation);
        list();
        showMemory();
        if (run.node.errorStatus === 401) {
            askKey(() => { connect(); answerAgain(run.node); });
        } else if (run.node.errorStatus === 0) {
            connect(); // says so below, and looks whether it comes back
        }
    });
    state.runs.set(conversation.id, run);
    changed(conversation);
    if (state.current === conversation) {
        show();
    }
}

// Another answer to the same; one that failed before its first word is replaced.
function answerAgain(node) {
    const conversation = state.current;
    if (node.error && !node.text && !node.calls.length) {
        conversation.nodes = conversation.nodes.filter((other) => other !== node);
    }
    answer(conversation, node.parent);
    composer.focus();
}

function editMessage(node, text) {
    if (!text && !node.parts?.length) {
        return;
    }
    const again = addNode(state.current, node.parent, { role: 'user', text, ...(node.parts ? { parts: node.parts } : {}) });
    answer(state.current, again.id);
    composer.focus();
}

function editLast() {
    const last = [...document.querySelectorAll('.message.user')].at(-1);
    last?.querySelector('footer .icon-button:last-child')?.click();
}

function giveResults(node) {
    changed(state.current);
    if (node.calls.every((call) => call.result !== null)) {
        const sent = addNode(state.current, node.id, { role: 'tool' });
        answer(state.current, sent.id);
    } else {
        show();
    }
}

// Conversations

async function remove(conversation) {
    state.runs.get(conversation.id)?.stop();
    state.conversations = state.conversations.filter((other) => other !== conversation);
    await forget(conversation.id);
    if (state.current === conversation) {
        startNew();
    } else {
        list();
    }
    toast(`Deleted “${titleOf(conversation)}”.`, { label: 'Undo', run: () => {
        state.conversations.push(conversation);
        changed(conversation);
        open(conversation);
    } });
}

async function removeAll() {
    const all = state.conversations;
    for (const run of state.runs.values()) {
        run.stop();
    }
    state.conversations = [];
    await forgetAll();
    startNew();
    toast('Deleted all chats.', { label: 'Undo', run: () => {
        state.conversations = all;
        all.forEach(changed);
        list();
    } });
}

async function save(conversations, name) {
    try {
        download(name, 'application/json', await toJson(conversations));
    } catch (error) {
        toast(error.message);
    }
}

async function load(file) {
    try {
        const loaded = fromJson(await file.text());
        state.conversations.push(...loaded);
        await Promise.all(loaded.map(changed));
        toast(loaded.length === 1 ? 'One chat was imported.' : `${loaded.length} chats were imported.`);
        if (loaded.length) {
            open(loaded.at(-1));
        }
    } catch (error) {
        toast(`${file.name}: ${error.message}`);
    }
}

function chooseImport() {
    at('import').click();
}

// The server

async function connect() {
    try {
        const models = await listModels();
        state.model = models[0]?.id || '';
        at('model').textContent = state.model.split('/').at(-1) || 'carat';
        at('model').title = state.model;
        setOnline(true);
        await showMemory();
    } catch (error) {
        setOnline(error.status > 0);
        if (error.status === 401) {
            askKey(connect);
        }
    }
}

function setOnline(isOnline) {
    at('hint').textContent = isOnline ? 'A model can be wrong: check what matters.' : 'The server cannot be reached. Is carat serve still running?';
    at('hint').classList.toggle('wrong', !isOnline);
    clearTimeout(state.retry);
    if (!isOnline) {
        state.retry = setTimeout(connect, 3000);
    }
}

async function showMemory() {
    const [version, metrics] = await Promise.all([readVersion().catch(() => ''), readMetrics().catch(() => ({}))]);
    const memory = metrics.process_resident_memory_peak_bytes;
    at('memory').textContent = memory ? formatSize(memory) : '';
    at('memory').title = 'The most memory that the server has used';
    state.about = [version ? `carat ${version}` : 'carat', state.model, memory ? `${formatSize(memory)} of memory` : ''].filter(Boolean);
}

// The frame

function showTheme() {
    applySettings();
    const button = at('theme');
    button.replaceChildren(icon(isDark() ? 'sun' : 'moon'));
    button.title = isDark() ? 'Light colours' : 'Dark colours';
    button.setAttribute('aria-label', button.title);
}

function toggleTheme() {
    changeSettings({ theme: isDark() ? 'light' : 'dark' });
    showTheme();
}

const isPhone = () => matchMedia('(max-width: 760px)').matches;

function toggleSidebar(isOpen) {
    const body = document.body.classList;
    if (isPhone()) {
        body.toggle('sidebar-over', isOpen);
    } else {
        body.toggle('sidebar-away', isOpen === undefined ? undefined : !isOpen);
        writeSetting('sidebarAway', body.contains('sidebar-away'));
    }
    const isShown = isPhone() ? body.contains('sidebar-over') : !body.contains('sidebar-away');
    at('sidebar').inert = !isShown;
    at('sidebar-open').setAttribute('aria-expanded', String(isShown));
}

function closeSidebarOnPhone() {
    if (isPhone()) {
        toggleSidebar(false);
    }
}

function showSettings() {
    openSettings(state.current, {
        system: (text) => { state.current.system = text; changed(state.current); showTop(); },
        themed: showTheme,
        keyed: connect,
        saveAll: () => save(state.conversations, 'carat-chats.json'),
        load: chooseImport,
        clear: removeAll,
    });
}

function build() {
    at('new').append(icon('plus'), h('span', {}, 'New chat'));
    at('new').addEventListener('click', startNew);
    at('hide-place').append(iconButton('left', 'Hide the list', () => toggleSidebar(false)));
    at('shade').addEventListener('click', () => toggleSidebar(false));
    at('foot').append(
        iconButton('gear', 'Settings', showSettings, { id: 'settings' }),
        iconButton('sun', 'Colours', toggleTheme, { id: 'theme' }),
        iconButton('help', 'Help', () => openHelp(state.about), { id: 'help' }),
        h('input', { type: 'file', id: 'import', hidden: true, accept: '.json,application/json', onchange: async (event) => {
            await load(event.target.files[0]);
            event.target.value = '';
        } }));
    const more = iconButton('save', 'Export this chat', () => openMenu(more, [
        ['save', 'As JSON, to import again', () => save([state.current], fileNameOf(state.current, 'json'))],
        ['file', 'As Markdown', () => download(fileNameOf(state.current, 'md'), 'text/markdown', toMarkdown(state.current))],
    ]), { 'aria-haspopup': 'menu', id: 'export' });
    at('top').append(
        iconButton('menu', 'List of chats', () => toggleSidebar(), { id: 'sidebar-open', 'aria-controls': 'sidebar' }),
        h('h1', { id: 'title' }),
        h('button', { type: 'button', id: 'system-mark', title: 'This chat has instructions', onclick: showSettings }, 'Instructions'),
        h('span', { class: 'gap' }),
        h('span', { id: 'model' }), h('span', { id: 'memory' }),
        h('span', { class: 'menu-place' }, more));
    at('to-end').append(icon('down'));
    at('to-end').addEventListener('click', () => messages.toEnd());
    at('welcome').append(
        h('img', { src: 'assets/icon.svg', alt: '', width: '56', height: '56' }),
        h('h2', {}, 'What can I do for you?'),
        h('p', {}, 'I can read, look at pictures and films, and listen. What you say stays between you and this machine.'),
        h('div', { class: 'ideas' }, [
            ['camera', 'Describe a picture', () => { composer.setText('What is in this picture?'); composer.choose(); }],
            ['mic', 'Listen to me', () => composer.record()],
            ['pencil', 'Write something', () => composer.setText('Write a short letter to ')],
            ['help', 'Explain something', () => composer.setText('Explain in plain words: ')],
        ].map(([name, label, act]) => h('button', { type: 'button', onclick: act }, icon(name), label))));
    showTheme();
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', showTheme);
    toggleSidebar(isPhone() ? false : !readSetting('sidebarAway', false));
    matchMedia('(max-width: 760px)').addEventListener('change', () => {
        document.body.classList.remove('sidebar-over');
        toggleSidebar(!isPhone());
    });
}

function walk(direction) {
    const all = [...document.querySelectorAll('.message')];
    const i = all.indexOf(document.activeElement?.closest?.('.message'));
    const to = i < 0 ? all.at(-1) : all[Math.max(0, i + direction)];
    if (to) {
        to.focus();
    } else {
        composer.focus();
    }
}

function key(event) {
    const isCommand = event.ctrlKey || event.metaKey;
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
    const name = `${isCommand ? 'C-' : ''}${event.altKey ? 'A-' : ''}${isCommand && event.shiftKey ? 'S-' : ''}${event.key.length === 1 ? event.key.toLowerCase() : event.key}`;
    const acts = {
        'C-S-o': startNew,
        'C-k': () => { toggleSidebar(true); at('search').focus(); at('search').select(); },
        'C-b': () => toggleSidebar(),
        'C-,': showSettings,
        'A-ArrowUp': () => walk(-1),
        'A-ArrowDown': () => walk(1),
        'A-r': () => (composer.recorder ? composer.endRecording(true) : composer.record()),
        'A-t': () => composer.setThinking(!settings.thinks),
        ...(isTyping ? {} : { '/': () => composer.focus(), '?': () => openHelp(state.about) }),
        Escape: () => {
            if (document.body.classList.contains('sidebar-over')) {
                toggleSidebar(false);
            } else if (composer.recorder) {
                composer.endRecording(false);
            } else {
                state.runs.get(state.current.id)?.stop();
            }
            composer.focus();
        },
    };
    if (acts[name] && !document.querySelector('dialog[open]')) {
        event.preventDefault();
        acts[name]();
    }
}

async function start() {
    build();
    addEventListener('keydown', key);
    show();
    state.conversations = await openStore();
    const last = readSetting('current', '');
    open(state.conversations.find((one) => one.id === last) || state.current);
    await connect();
    setInterval(() => document.visibilityState === 'visible' && showMemory(), 30000);
}

// Answers that are being written when the page goes are kept as far as they came.
addEventListener('pagehide', () => {
    for (const conversation of state.conversations) {
        if (state.runs.has(conversation.id)) {
            keep(conversation);
        }
    }
});

start();
