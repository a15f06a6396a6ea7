// SPDX-License-Identifier: Apache-2.0
// What the user chose. null stands for the server's default, which is the model's own.
import { readSetting, writeSetting } from './store.js';
import { setKey } from './api.js';

const DEFAULTS = {
    theme: 'auto', // auto, light, dark
    temperature: null,
    topP: null,
    topK: null,
    tokensMax: null,
    seed: null,
    thinks: false,
    detail: 'auto', // of pictures: auto, low, high
    system: '', // of new conversations
    tools: '', // JSON
    key: '',
};

export const settings = { ...DEFAULTS, ...readSetting('settings', {}) };

export function changeSettings(changes) {
    Object.assign(settings, changes);
    writeSetting('settings', settings);
    applySettings();
}

export function applySettings() {
    setKey(settings.key);
    if (settings.theme === 'auto') {
        delete document.documentElement.dataset.theme;
    } else {
        document.documentElement.dataset.theme = settings.theme;
    }
}

export function isDark() {
    return settings.theme === 'dark' || (settings.theme === 'auto' && matchMedia('(prefers-color-scheme: dark)').matches);
}

// The tools as the API wants them; throws an Error with a sentence.
export function parseTools(text) {
    if (!text.trim()) {
        return [];
    }
    let tools;
    try {
        tools = JSON.parse(text);
    } catch (error) {
        throw new Error(`The tools are not valid JSON: ${error.message}`);
    }
    tools = Array.isArray(tools) ? tools : [tools];
    for (const tool of tools) {
        if (typeof (tool?.function?.name ?? tool?.name) !== 'string') {
            throw new Error('Each tool is an object with a function that has a name.');
        }
    }
    return tools.map((tool) => (tool.function ? { ...tool, type: 'function' } : { type: 'function', function: tool }));
}

// The part of a request that does not depend on the conversation.
export function requestOptions() {
    const body = { reasoning_effort: settings.thinks ? 'medium' : 'none' };
    const names = { temperature: 'temperature', topP: 'top_p', topK: 'top_k', tokensMax: 'max_completion_tokens', seed: 'seed' };
    for (const [ours, theirs] of Object.entries(names)) {
        if (settings[ours] !== null) {
            body[theirs] = settings[ours];
        }
    }
    const tools = parseTools(settings.tools);
    if (tools.length) {
        body.tools = tools;
    }
    return body;
}
