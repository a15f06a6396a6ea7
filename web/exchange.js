// SPDX-License-Identifier: Apache-2.0
// Conversations as files: JSON that can be read back, pictures and sounds included, and Markdown to
// read or print. What is read back is checked field by field; it may come from anywhere.
import { fromDataUrl, toDataUrl } from './attach.js';
import { newConversation, newId, pathOf, titleOf } from './conversation.js';

const FORMAT = 'carat-conversations';

export async function toJson(conversations) {
    const list = [];
    for (const conversation of conversations) {
        const nodes = [];
        for (const node of conversation.nodes) {
            const parts = [];
            for (const { blob, ...part } of node.parts || []) {
                parts.push(blob ? { ...part, data: await toDataUrl(blob) } : part);
            }
            nodes.push(node.parts ? { ...node, parts } : node);
        }
        list.push({ ...conversation, nodes });
    }
    return JSON.stringify({ format: FORMAT, version: 1, conversations: list }, null, 1);
}

export function toMarkdown(conversation) {
    const lines = [`# ${titleOf(conversation)}`, ''];
    if (conversation.system) {
        lines.push('**Instructions**', '', conversation.system, '');
    }
    for (const node of pathOf(conversation)) {
        if (node.role === 'tool') {
            continue;
        }
        lines.push(node.role === 'user' ? '**You**' : '**carat**', '');
        for (const part of node.parts || []) {
            lines.push(`*${part.name}*`, '');
        }
        if (node.thought) {
            lines.push(...node.thought.split('\n').map((line) => `> ${line}`), '');
        }
        for (const call of node.calls || []) {
            lines.push(`\`${call.name}(${call.arguments})\` gave \`${call.result ?? 'nothing yet'}\``, '');
        }
        lines.push(node.text, '');
    }
    return lines.join('\n');
}

export function download(name, type, text) {
    const url = URL.createObjectURL(new Blob([text], { type }));
    const link = document.createElement('a');
    link.href = url;
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

export function fileNameOf(conversation, extension) {
    const words = titleOf(conversation).normalize('NFKD').replace(/[^\w\s-]/g, '').trim().replace(/\s+/g, '-');
    return `${words.slice(0, 50) || 'chat'}.${extension}`;
}

// Throws an Error with a sentence. Ids are new, so nothing that is there is replaced.
export function fromJson(text) {
    let file;
    try {
        file = JSON.parse(text);
    } catch (error) {
        throw new Error(`This is not valid JSON: ${error.message}`);
    }
    if (file?.format === FORMAT && Array.isArray(file.conversations)) {
        return file.conversations.map(readConversation);
    }
    if (Array.isArray(file?.messages)) {
        return [readMessages(file.messages)];
    }
    throw new Error('This file holds no conversations of carat.');
}

const textOf = (value) => (typeof value === 'string' ? value : '');
const numberOf = (value) => (Number.isFinite(value) ? value : undefined);

function readConversation(from) {
    const to = newConversation(textOf(from?.system));
    to.title = textOf(from?.title);
    to.created = numberOf(from?.created) ?? to.created;
    to.updated = numberOf(from?.updated) ?? to.updated;
    const list = Array.isArray(from?.nodes) ? from.nodes : [];
    const ids = new Map(list.map((node) => [node?.id, newId()]));
    to.nodes = list.filter((node) => ['user', 'assistant', 'tool'].includes(node?.role))
        .map((node) => ({ ...readNode(node), id: ids.get(node.id), parent: ids.get(node.parent) ?? null }));
    to.leaf = ids.get(from.leaf) ?? to.nodes.at(-1)?.id ?? null;
    return to;
}

function readNode(from) {
    const node = { role: from.role, created: numberOf(from.created) ?? Date.now(), text: textOf(from.text) };
    if (Array.isArray(from.parts)) {
        node.parts = from.parts.map(readPart);
    }
    if (from.role === 'assistant') {
        node.thought = textOf(from.thought);
        node.thoughtSeconds = numberOf(from.thoughtSeconds);
        node.calls = (Array.isArray(from.calls) ? from.calls : []).map((call) => ({
            id: textOf(call?.id), name: textOf(call?.name), arguments: textOf(call?.arguments),
            result: typeof call?.result === 'string' ? call.result : null,
        }));
        node.stop = textOf(from.stop) || 'stop';
        node.model = textOf(from.model);
        const stats = Object.entries(from.stats || {}).filter(([, value]) => Number.isFinite(value));
        node.stats = Object.fromEntries(stats);
    }
    return node;
}

function readPart(from) {
    const kind = ['image', 'audio', 'video', 'text'].includes(from?.kind) ? from.kind : 'text';
    const part = { id: crypto.getRandomValues(new Uint32Array(1))[0], kind, name: textOf(from?.name) || kind, type: textOf(from?.type), size: numberOf(from?.size), seconds: numberOf(from?.seconds) };
    if (kind === 'text') {
        part.text = textOf(from?.text);
    } else {
        part.blob = fromDataUrl(textOf(from?.data));
    }
    return part;
}

// A list of messages as APIs take it; texts only.
function readMessages(messages) {
    const conversation = newConversation('');
    for (const message of messages) {
        const content = Array.isArray(message?.content)
            ? message.content.map((part) => textOf(part?.text)).join('\n') : textOf(message?.content);
        if (message?.role === 'system' || message?.role === 'developer') {
            conversation.system = content;
        } else if (message?.role === 'user' || message?.role === 'assistant') {
            const node = { ...readNode({ role: message.role, text: content, thought: message.reasoning_content }), id: newId(), parent: conversation.leaf };
            conversation.nodes.push(node);
            conversation.leaf = node.id;
        }
    }
    return conversation;
}
