// SPDX-License-Identifier: Apache-2.0
// From a conversation to a request, and from the stream of an answer to a node of the conversation.
import { ApiError, readAhead, streamChat } from './api.js';
import { contentOf } from './attach.js';
import { addNode, pathOf } from './conversation.js';
import { requestOptions, settings } from './settings.js';

async function messageOf(node) {
    if (node.role === 'user') {
        if (!node.parts?.length) {
            return [{ role: 'user', content: node.text }];
        }
        // Media come before the text: what was read ahead while it was recorded stays the beginning.
        const content = await Promise.all(node.parts.map((part) => contentOf(part, settings.detail)));
        return [{ role: 'user', content: node.text ? [...content, { type: 'text', text: node.text }] : content }];
    }
    if (node.role === 'assistant' && (node.text || node.calls?.length)) {
        const message = { role: 'assistant', content: node.text };
        if (!node.calls?.length) {
            return [message];
        }
        message.tool_calls = node.calls.map(({ id, name, arguments: given }) => ({ id, type: 'function', function: { name, arguments: given } }));
        if (node.thought) {
            message.reasoning_content = node.thought;
        }
        return [message, ...node.calls.map((call) => ({ role: 'tool', tool_call_id: call.id, name: call.name, content: call.result ?? 'no result' }))];
    }
    return [];
}

async function requestOf(conversation, leaf, model) {
    const messages = (await Promise.all(pathOf(conversation, leaf).map(messageOf))).flat();
    if (conversation.system.trim()) {
        messages.unshift({ role: 'system', content: conversation.system });
    }
    return { ...(model ? { model } : {}), messages, ...requestOptions() };
}

// Starts an answer below the node `parent` (null: none). onChange is called at each piece and, with
// true, at the end. Returns {node, stop(), ended}.
export function startAnswer(conversation, parent, model, onChange) {
    const controller = new AbortController();
    const node = addNode(conversation, parent, { role: 'assistant', thought: '', calls: [], model });
    const run = { node, stop: () => controller.abort() };
    run.ended = answer(conversation, parent, model, node, controller.signal, onChange);
    return run;
}

async function answer(conversation, parent, model, node, signal, onChange) {
    const clock = { start: performance.now(), first: 0, last: 0, thought: 0 };
    try {
        const body = await requestOf(conversation, parent, model);
        for await (const event of streamChat(body, signal)) {
            takeEvent(node, event, clock);
            onChange(false);
        }
    } catch (error) {
        if (signal.aborted) {
            node.stop = 'user';
        } else {
            node.error = error instanceof ApiError ? error.message : `Something went wrong: ${error.message}`;
            node.errorStatus = error.status ?? -1;
        }
    }
    endThought(node, clock);
    node.stop ||= 'error';
    node.stats = statsOf(node, clock);
    delete node.usage;
    delete node.timings;
    conversation.updated = Date.now();
    onChange(true);
}

function takeEvent(node, event, clock) {
    node.usage = event.usage || node.usage;
    node.timings = event.timings || node.timings;
    const choice = event.choices?.[0];
    const delta = choice?.delta || {};
    const thought = delta.reasoning_content ?? delta.reasoning;
    if (thought || delta.content || delta.tool_calls) {
        clock.last = performance.now();
        clock.first ||= clock.last;
    }
    if (thought) {
        clock.thought ||= clock.last;
        node.thought += thought;
    }
    if (delta.content || delta.tool_calls) {
        endThought(node, clock);
        node.text += delta.content || '';
    }
    for (const piece of delta.tool_calls || []) {
        const call = (node.calls[piece.index ?? 0] ??= { id: '', name: '', arguments: '', result: null });
        call.id ||= piece.id || '';
        call.name += piece.function?.name || '';
        call.arguments += piece.function?.arguments || '';
    }
    if (choice?.finish_reason) {
        node.stop = choice.carat_finish || event.carat_finish || choice.finish_reason;
    }
}

function endThought(node, clock) {
    if (node.thought && node.thoughtSeconds === undefined) {
        node.thoughtSeconds = (performance.now() - (clock.thought || clock.start)) / 1000;
    }
}

function statsOf(node, clock) {
    const usage = node.usage || {};
    const tokens = usage.completion_tokens;
    const seconds = (clock.last - clock.first) / 1000;
    return {
        promptTokens: usage.prompt_tokens,
        cachedTokens: usage.prompt_tokens_details?.cached_tokens,
        tokens,
        thoughtTokens: usage.completion_tokens_details?.reasoning_tokens,
        firstSeconds: clock.first ? (clock.first - clock.start) / 1000 : undefined,
        rate: node.timings?.predicted_per_second ?? (tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : undefined),
    };
}

// The recording goes in while it grows: each time the last reading ended and there is more, the
// server reads the conversation with the sound so far, and finds most of it read already.
export class ReadAhead {
    constructor(conversation, model, partsBefore, recorder, onRead) {
        Object.assign(this, { conversation, model, partsBefore, recorder, onRead });
        this.seconds = 0; // that the server has read
        this.controller = new AbortController();
        this.going = null;
        this.isOff = false;
    }

    // Called often; sends when two more seconds are there.
    tick() {
        const seconds = Math.floor(this.recorder.seconds);
        if (this.isOff || this.going || seconds < this.seconds + 2) {
            return;
        }
        this.going = this.read(seconds).catch(() => {
            this.isOff = true; // it only saves time: nobody needs to hear of it
        }).finally(() => {
            this.going = null;
        });
    }

    async read(seconds) {
        const draft = { ...this.conversation, nodes: [...this.conversation.nodes] };
        addNode(draft, this.conversation.leaf, { role: 'user', parts: [...this.partsBefore, this.recorder.part(seconds)] });
        const body = await requestOf(draft, draft.leaf, this.model);
        const usage = await readAhead(body, this.controller.signal);
        this.seconds = seconds;
        this.onRead(seconds, usage);
    }

    // Waits a moment for a reading under way: the answer needs what it brings.
    async end() {
        this.isOff = true;
        if (this.going) {
            await Promise.race([this.going, new Promise((resolve) => { setTimeout(resolve, 4000); })]);
            this.controller.abort();
        }
    }

    cancel() {
        this.isOff = true;
        this.controller.abort();
    }
}
