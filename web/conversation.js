// SPDX-License-Identifier: Apache-2.0
// A conversation is a tree: editing a message or asking for another answer adds a branch and loses
// nothing. Each node knows its parent; the leaf says which branch is shown.
//
// node: {id, parent, role: user | assistant | tool, created, text,
//        parts: [{kind: image | audio | video | text, name, type, blob, seconds}]   (user)
//        thought, thoughtSeconds, calls: [{id, name, arguments, result}],
//        stop, error, stats, model}                                               (assistant)
// The results of calls are in the calls themselves; a tool node only says that they were sent.

export function newId() {
    return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, '0')).join('');
}

export function newConversation(system) {
    const now = Date.now();
    return { id: newId(), title: '', created: now, updated: now, system: system || '', nodes: [], leaf: null };
}

export function nodeOf(conversation, id) {
    return conversation.nodes.find((node) => node.id === id);
}

// From the first message to the leaf. Ends at a parent that is missing or met before: files that
// were imported may say anything.
export function pathOf(conversation, leaf = conversation.leaf) {
    const byId = new Map(conversation.nodes.map((node) => [node.id, node]));
    const path = [];
    for (let node = byId.get(leaf); node; node = byId.get(node.parent)) {
        byId.delete(node.id);
        path.push(node);
    }
    return path.reverse();
}

export function addNode(conversation, parent, node) {
    const added = { id: newId(), parent, created: Date.now(), text: '', ...node };
    conversation.nodes.push(added);
    conversation.leaf = added.id;
    conversation.updated = added.created;
    return added;
}

export function siblingsOf(conversation, node) {
    return conversation.nodes.filter((other) => other.parent === node.parent && other.role === node.role);
}

// Shows the branch that goes through this node, to its newest end.
export function selectNode(conversation, id) {
    const seen = new Set();
    for (;;) {
        seen.add(id);
        const next = conversation.nodes.filter((node) => node.parent === id && !seen.has(node.id)).at(-1);
        if (!next) {
            break;
        }
        id = next.id;
    }
    conversation.leaf = id;
}

export function titleOf(conversation) {
    if (conversation.title) {
        return conversation.title;
    }
    const first = conversation.nodes.find((node) => node.role === 'user');
    if (!first) {
        return 'New chat';
    }
    const line = first.text.trim().split('\n')[0];
    const names = { image: 'Picture', audio: 'Sound', video: 'Film', text: 'File' };
    const title = line || names[first.parts?.[0]?.kind] || 'Chat';
    return title.length > 60 ? `${title.slice(0, 58).trimEnd()}…` : title;
}

export function isMatch(conversation, words) {
    const text = `${conversation.title}\n${conversation.nodes.map((node) => node.text).join('\n')}`.toLowerCase();
    return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
