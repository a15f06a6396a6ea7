// SPDX-License-Identifier: Apache-2.0
// Files that go with a message: what they are, and how they travel. They are sent as they are; the
// server knows more formats than a browser can show.

const BY_NAME = {
    image: 'jpg jpeg png gif webp bmp tif tiff heic heif avif ppm pgm',
    audio: 'wav mp3 flac m4a aac ogg oga opus weba',
    video: 'mp4 mov webm mkv avi m4v',
    text: 'txt md markdown csv tsv json jsonl xml html htm css js mjs ts tsx jsx py c h cc cpp hpp cs java kt go rs rb php pl sh '
        + 'bash lua sql r swift scala toml yaml yml ini cfg conf log tex srt vtt diff patch',
};
const KINDS = new Map(Object.entries(BY_NAME).flatMap(([kind, names]) => names.split(' ').map((name) => [name, kind])));
const TEXT_MAX = 1000000;
const FILE_MAX = 200000000;

export const ACCEPT = 'image/*,audio/*,video/*,text/*,' + [...KINDS.keys()].map((name) => `.${name}`).join(',');

function extensionOf(name) {
    return /\.([^.]+)$/.exec(name.toLowerCase())?.[1] || '';
}

function kindOf(file) {
    const type = file.type.split('/')[0];
    return KINDS.get(extensionOf(file.name)) || (['image', 'audio', 'video', 'text'].includes(type) ? type : null);
}

// A part of a message; throws an Error with a sentence for people.
export async function partOf(file) {
    const name = file.name || 'pasted';
    const kind = kindOf({ name, type: file.type });
    if (!kind) {
        throw new Error(`${name}: carat takes pictures, sound, film and plain text, not this kind of file.`);
    }
    if (file.size === 0) {
        throw new Error(`${name} is empty.`);
    }
    if (file.size > FILE_MAX) {
        throw new Error(`${name} is larger than ${FILE_MAX / 1000000} MB.`);
    }
    const part = { id: crypto.getRandomValues(new Uint32Array(1))[0], kind, name, type: file.type, size: file.size };
    if (kind === 'text') {
        if (file.size > TEXT_MAX) {
            throw new Error(`${name} is a long text: at most ${TEXT_MAX / 1000000} MB fit into a message.`);
        }
        part.text = await file.text();
    } else {
        // A copy: the file on the disk may change or go.
        part.blob = new Blob([await file.arrayBuffer()], { type: file.type || typeOf(kind, name) });
    }
    return part;
}

function typeOf(kind, name) {
    return `${kind}/${extensionOf(name) || 'x-unknown'}`;
}

export function filesOf(transfer) {
    const files = [...(transfer?.files || [])];
    return files.length ? files : [...(transfer?.items || [])].filter((item) => item.kind === 'file').map((item) => item.getAsFile()).filter(Boolean);
}

export function toDataUrl(blob) {
    return new Promise((resolve, reject) => {
        const reader = new FileReader();
        reader.onload = () => resolve(reader.result);
        reader.onerror = () => reject(new Error('A file of this conversation can no longer be read.'));
        reader.readAsDataURL(blob);
    });
}

export function fromDataUrl(url) {
    const match = /^data:([^;,]*)(?:;[^,]*)?;base64,([A-Za-z0-9+/=\s]*)$/.exec(url);
    if (!match) {
        throw new Error('a medium is no data: address with Base64');
    }
    return new Blob([Uint8Array.from(atob(match[2]), (c) => c.charCodeAt(0))], { type: match[1] });
}

const addresses = new WeakMap();
// An address to show a blob with, one for each.
export function addressOf(blob) {
    if (!addresses.has(blob)) {
        addresses.set(blob, URL.createObjectURL(blob));
    }
    return addresses.get(blob);
}

const encoded = new WeakMap();
// A part in the words of the API. Encoding is remembered, as each turn sends all of them again.
export async function contentOf(part, detail) {
    if (part.kind === 'text') {
        const fence = '`'.repeat(Math.max(3, ...[...part.text.matchAll(/`+/g)].map((run) => run[0].length + 1)));
        return { type: 'text', text: `${part.name}:\n${fence}\n${part.text}\n${fence}\n` };
    }
    if (!encoded.has(part.blob)) {
        encoded.set(part.blob, await toDataUrl(part.blob));
    }
    const url = encoded.get(part.blob);
    if (part.kind === 'audio') {
        return { type: 'input_audio', input_audio: { data: url.slice(url.indexOf(',') + 1), format: soundFormat(part) } };
    }
    if (part.kind === 'video') {
        return { type: 'video_url', video_url: { url } };
    }
    return { type: 'image_url', image_url: detail && detail !== 'auto' ? { url, detail } : { url } };
}

function soundFormat(part) {
    return extensionOf(part.name) || (part.type.split('/')[1] || 'wav').replace(/;.*/, '').replace(/^x-/, '');
}
