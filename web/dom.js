// SPDX-License-Identifier: Apache-2.0
// Making elements. Text is always set as text: nothing here turns a string into HTML.

// h('button', {class: 'plain', onclick: f, 'aria-label': 'Send'}, child, 'text', null)
export function h(tag, props, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(props || {})) {
        if (value === null || value === undefined || value === false) {
            continue;
        }
        if (name.startsWith('on')) {
            element.addEventListener(name.slice(2), value);
        } else if (name === 'value' || name === 'checked' || name === 'srcObject') {
            element[name] = value;
        } else {
            element.setAttribute(name, value === true ? '' : value);
        }
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
    return element;
}

// Drawn on 24 by 24 with a line of 1.8.
const SHAPES = {
    plus: 'M12 5v14M5 12h14',
    send: 'M12 19V6M6 11.5 12 5.5l6 6',
    stop: 'M7 7h10v10H7z',
    camera: 'M4 8.5h3.2L9 6h6l1.8 2.5H20v10H4zM12 16.2a2.9 2.9 0 1 0 0-5.8 2.9 2.9 0 0 0 0 5.8z',
    mic: 'M12 3.8a2.7 2.7 0 0 1 2.7 2.7v5a2.7 2.7 0 0 1-5.4 0v-5A2.7 2.7 0 0 1 12 3.8zM6.3 11.3a5.7 5.7 0 0 0 11.4 0M12 17v3.4',
    think: 'M9.2 17.2h5.6M9.8 20.2h4.4M12 3.8a5.8 5.8 0 0 0-3.4 10.5c.5.4.6.8.6 1.4v1.5h5.6v-1.5c0-.6.1-1 .6-1.4A5.8 5.8 0 0 0 12 3.8z',
    menu: 'M4 7h16M4 12h16M4 17h16',
    search: 'M10.8 17a6.2 6.2 0 1 0 0-12.4 6.2 6.2 0 0 0 0 12.4zM15.4 15.4 20 20',
    pencil: 'M5 19l.8-3.8L15.9 5.1a1.4 1.4 0 0 1 2 0l1 1a1.4 1.4 0 0 1 0 2L8.8 18.2z',
    trash: 'M5 7h14M9.5 7V4.8h5V7M7 7l.8 12.2h8.4L17 7M10.3 10.5v5.2M13.7 10.5v5.2',
    gear: 'M5 7h6M15 7h4M5 12h2M11 12h8M5 17h8M17 17h2M13 5v4M9 10v4M15 15v4',
    sun: 'M12 15.8a3.8 3.8 0 1 0 0-7.6 3.8 3.8 0 0 0 0 7.6zM12 3v1.8M12 19.2V21M3 12h1.8M19.2 12H21M5.6 5.6l1.3 1.3M17.1 17.1l1.3 1.3M5.6 18.4l1.3-1.3M17.1 6.9l1.3-1.3',
    moon: 'M19.5 14.4A7.8 7.8 0 0 1 9.6 4.5a7.8 7.8 0 1 0 9.9 9.9z',
    help: 'M9.3 9.2a2.8 2.8 0 1 1 4.1 2.5c-.9.5-1.4 1-1.4 2.1M12 17.2v.1M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z',
    copy: 'M9 9h10v10H9zM15 9V5H5v10h4',
    check: 'M5 12.5l4.5 4.5L19 7.5',
    again: 'M18.6 12a6.6 6.6 0 1 1-2-4.7M18.8 4v4h-4',
    left: 'M14 6l-6 6 6 6',
    right: 'M10 6l6 6-6 6',
    down: 'M6 10l6 6 6-6',
    close: 'M6.5 6.5l11 11M17.5 6.5l-11 11',
    save: 'M12 4v10.5M7.5 10.5 12 15l4.5-4.5M5 19.5h14',
    tool: 'M14.6 6.2a4 4 0 0 0-5 5L4.5 16.3l3.2 3.2 5.1-5.1a4 4 0 0 0 5-5l-2.4 2.4-2.6-.6-.6-2.6z',
    sound: 'M4.5 10v4h3l4 3.5v-11L7.5 10zM15 9.2a4 4 0 0 1 0 5.6M17.6 6.8a7.4 7.4 0 0 1 0 10.4',
    film: 'M4 6h16v12H4zM10.3 9.4v5.2l4.4-2.6z',
    file: 'M7 3.8h6.5L18 8.3v11.9H7zM13.2 4v4.6h4.6',
    turn: 'M4.5 9.5a8 8 0 0 1 14-2M19.5 14.5a8 8 0 0 1-14 2M18.7 3.5v4.2h-4.2M5.3 20.5v-4.2h4.2',
};

export function icon(name) {
    const space = 'http://www.w3.org/2000/svg';
    const svg = document.createElementNS(space, 'svg');
    svg.setAttribute('viewBox', '0 0 24 24');
    svg.setAttribute('class', 'icon');
    svg.setAttribute('aria-hidden', 'true');
    const path = document.createElementNS(space, 'path');
    path.setAttribute('d', SHAPES[name]);
    svg.append(path);
    return svg;
}

// A button that is only a picture: label is what it is called and its tooltip.
export function iconButton(name, label, onclick, props) {
    return h('button', { type: 'button', class: 'icon-button', 'aria-label': label, title: label, onclick, ...props }, icon(name));
}

let timer = 0;
// A line at the bottom for a few seconds; action: {label, run}.
export function toast(text, action) {
    const place = document.getElementById('toast');
    clearTimeout(timer);
    const hide = () => place.replaceChildren();
    place.replaceChildren(h('div', { class: 'toast' }, text, action
        ? h('button', { type: 'button', onclick: () => { hide(); action.run(); } }, action.label)
        : null));
    timer = setTimeout(hide, action ? 8000 : 4000);
}

// Said by screen readers, seen by nobody.
export function announce(text) {
    document.getElementById('status').textContent = text;
}

export function formatSeconds(seconds) {
    return seconds < 0.1 ? 'a moment'
        : seconds < 10 ? `${seconds.toFixed(1)} s`
        : seconds < 60 ? `${Math.round(seconds)} s`
            : `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function formatClock(seconds) {
    const whole = Math.floor(seconds);
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}

export function formatSize(bytes) {
    const units = ['B', 'kB', 'MB', 'GB', 'TB'];
    let i = 0;
    while (bytes >= 1000 && i < units.length - 1) {
        bytes /= 1000;
        i++;
    }
    return `${bytes < 10 && i > 0 ? bytes.toFixed(1) : Math.round(bytes)} ${units[i]}`;
}
