// SPDX-License-Identifier: Apache-2.0
// The list of conversations: search, rename, export, delete.
import { h, iconButton } from '../dom.js';
import { isMatch, titleOf } from '../conversation.js';

function dayOf(time) {
    const today = new Date().setHours(0, 0, 0, 0);
    const days = Math.ceil((today - time) / 86400000);
    return days <= 0 ? 'Today' : days === 1 ? 'Yesterday' : days <= 7 ? 'Last week' : 'Earlier';
}

export class Sidebar {
    // actions: open(conversation), rename(conversation, title), remove(conversation), save(conversation)
    constructor(root, search, actions) {
        Object.assign(this, { root, search, actions });
        search.addEventListener('input', () => this.show(this.all, this.current, this.busy));
        root.addEventListener('keydown', (event) => this.key(event));
    }

    show(all, current, busy) {
        Object.assign(this, { all, current, busy });
        const words = this.search.value.trim();
        const shown = all.filter((one) => one.nodes.length && (!words || isMatch(one, words))).sort((a, b) => b.updated - a.updated);
        const children = [];
        let day = '';
        for (const conversation of shown) {
            const its = dayOf(conversation.updated);
            if (its !== day) {
                day = its;
                children.push(h('h2', {}, day));
            }
            children.push(this.item(conversation));
        }
        if (!shown.length) {
            children.push(h('p', { class: 'empty' }, words ? 'Nothing found.' : 'Your chats will be listed here. They stay in this browser.'));
        }
        this.root.replaceChildren(...children);
    }

    item(conversation) {
        const title = titleOf(conversation);
        const isCurrent = conversation === this.current;
        const item = h('div', { class: isCurrent ? 'item current' : 'item' },
            h('button', { type: 'button', class: 'open', title, 'aria-current': isCurrent ? 'true' : null, onclick: () => this.actions.open(conversation) },
                this.busy.has(conversation.id) ? h('span', { class: 'busy', title: 'Answering' }) : null, h('span', { class: 'name' }, title)),
            h('span', { class: 'item-tools' },
                iconButton('pencil', `Rename ${title}`, () => this.rename(conversation, item)),
                iconButton('save', `Export ${title}`, () => this.actions.save(conversation)),
                iconButton('trash', `Delete ${title}`, () => this.actions.remove(conversation))));
        return item;
    }

    rename(conversation, item) {
        const input = h('input', { class: 'rename', value: titleOf(conversation), 'aria-label': 'Title', maxlength: '200' });
        let isOver = false;
        const end = (isKept) => {
            if (!isOver) {
                isOver = true;
                this.actions.rename(conversation, isKept ? input.value.trim() : conversation.title);
            }
        };
        input.addEventListener('keydown', (event) => {
            event.stopPropagation();
            if (event.key === 'Enter' || event.key === 'Escape') {
                event.preventDefault();
                end(event.key === 'Enter');
            }
        });
        input.addEventListener('blur', () => end(true));
        item.replaceChildren(input);
        input.select();
    }

    // Up and down through the list; Delete and F2 do what they do in a list of files.
    key(event) {
        const buttons = [...this.root.querySelectorAll('.open')];
        const i = buttons.indexOf(document.activeElement);
        if (i < 0) {
            return;
        }
        const tools = buttons[i].parentElement.querySelectorAll('.item-tools button');
        const act = {
            ArrowDown: () => buttons[Math.min(i + 1, buttons.length - 1)].focus(),
            ArrowUp: () => (i === 0 ? this.search : buttons[i - 1]).focus(),
            F2: () => tools[0].click(),
            Delete: () => tools[2].click(),
        }[event.key];
        if (act) {
            event.preventDefault();
            act();
        }
    }
}
