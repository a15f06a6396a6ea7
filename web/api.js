// SPDX-License-Identifier: Apache-2.0
// Talks to the server it came from, in OpenAI's dialect. Addresses are relative, so that the page
// works below any path of a proxy.

let key = '';
export function setKey(text) {
    key = text;
}

export class ApiError extends Error {
    constructor(status, message, retryAfter) {
        super(message);
        this.status = status; // 0: no answer at all
        this.retryAfter = retryAfter; // seconds, or 0
    }
}

async function request(path, options) {
    const headers = { ...options?.headers };
    if (key) {
        headers.Authorization = `Bearer ${key}`;
    }
    let response;
    try {
        response = await fetch(path, { ...options, headers, cache: 'no-store' });
    } catch (error) {
        if (error.name === 'AbortError') {
            throw error;
        }
        throw new ApiError(0, 'The server cannot be reached. Is carat serve still running?');
    }
    if (!response.ok) {
        throw await refusal(response);
    }
    return response;
}

async function refusal(response) {
    let said = '';
    try {
        const body = await response.json();
        said = body.error?.message || body.error || body.message || '';
    } catch {
        // no JSON: the status has to do
    }
    const retry = Number(response.headers.get('Retry-After')) || 0;
    return new ApiError(response.status, inWords(response.status, String(said), retry), retry);
}

function inWords(status, said, retry) {
    const wait = retry ? ` Try again in ${retry} ${retry === 1 ? 'second' : 'seconds'}.` : ' Try again in a moment.';
    switch (status) {
    case 401:
    case 403:
        return said || 'The server wants an API key.';
    case 404:
        return said || 'The server does not offer this.';
    case 413:
        return `That is more than the server takes. ${said}`;
    case 429:
        return `The server is busy with other answers.${wait}`;
    case 503:
        return `The server cannot take this now.${wait} ${said}`;
    default:
        return said || `The server answered with error ${status}.`;
    }
}

export async function listModels() {
    const body = await (await request('v1/models')).json();
    return body.data || [];
}

export async function readVersion() {
    return (await (await request('version')).json()).version || '';
}

// The values of Prometheus' text by name, labels left out.
export async function readMetrics() {
    const text = await (await request('metrics')).text();
    const values = {};
    for (const line of text.split('\n')) {
        const match = /^([A-Za-z_:][\w:]*)(?:\{[^}]*\})? (\S+)/.exec(line);
        if (match && !(match[1] in values)) {
            values[match[1]] = Number(match[2]);
        }
    }
    return values;
}

// An answer as it is written: yields what the server sends, one object per event.
export async function* streamChat(body, signal) {
    const response = await request('v1/chat/completions', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
        signal,
    });
    let isDone = false;
    for await (const data of readEvents(response.body)) {
        isDone = data === '[DONE]'; // read on to the end: leaving early looks like going away
        if (isDone) {
            continue;
        }
        const event = JSON.parse(data);
        if (event.error) {
            throw new ApiError(500, event.error.message || String(event.error));
        }
        yield event;
    }
    if (!isDone) {
        throw new ApiError(0, 'The answer ended before it was complete.');
    }
}

// Lets the server read what a message will begin with, so that the answer starts sooner. Nobody
// looks at what comes back but at how much of it was known.
export async function readAhead(body, signal) {
    const response = await request('v1/chat/completions', {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ ...body, max_completion_tokens: 1 }),
        signal,
    });
    return (await response.json()).usage || {};
}

// Server-sent events: the data of each.
async function* readEvents(stream) {
    const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    let data = [];
    try {
        for (;;) {
            let piece;
            try {
                piece = await reader.read();
            } catch (error) {
                throw error.name === 'AbortError' ? error : new ApiError(0, 'The connection broke off in the middle of the answer.');
            }
            if (piece.done) {
                return;
            }
            const lines = (rest + piece.value).split(/\r?\n/);
            rest = lines.pop();
            for (const line of lines) {
                if (line.startsWith('data:')) {
                    data.push(line.slice(line[5] === ' ' ? 6 : 5));
                } else if (line === '' && data.length) {
                    const whole = data.join('\n');
                    data = [];
                    yield whole;
                }
            }
        }
    } finally {
        reader.cancel().catch(() => {});
    }
}
