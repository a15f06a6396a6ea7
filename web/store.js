// SPDX-License-Identifier: Apache-2.0
// What the browser keeps: conversations with their pictures and sounds in IndexedDB, settings in
// localStorage. Where either is refused (private windows, strict settings) everything goes on in
// memory, and isKept says so.

const DATABASE = 'carat';
const TABLE = 'conversations';
let database = null;

function done(request) {
    return new Promise((resolve, reject) => {
        request.onsuccess = () => resolve(request.result);
        request.onerror = () => reject(request.error);
        request.onblocked = () => reject(new Error('blocked'));
    });
}

// All conversations that were kept.
export async function openStore() {
    try {
        const request = indexedDB.open(DATABASE, 1);
        request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: 'id' });
        database = await done(request);
        database.onversionchange = () => database.close();
        return await done(database.transaction(TABLE).objectStore(TABLE).getAll());
    } catch {
        database = null;
        return [];
    }
}

export function isKept() {
    return database !== null;
}

// True when it was written.
async function change(act) {
    if (!database) {
        return false;
    }
    try {
        await done(act(database.transaction(TABLE, 'readwrite').objectStore(TABLE)));
        return true;
    } catch {
        return false;
    }
}

export function keep(conversation) {
    return change((table) => table.put(conversation));
}

export function forget(id) {
    return change((table) => table.delete(id));
}

export function forgetAll() {
    return change((table) => table.clear());
}

const memory = new Map();

export function readSetting(name, otherwise) {
    try {
        const text = localStorage.getItem(`carat.${name}`);
        return text === null ? otherwise : JSON.parse(text);
    } catch {
        return memory.has(name) ? memory.get(name) : otherwise;
    }
}

export function writeSetting(name, value) {
    memory.set(name, value);
    try {
        localStorage.setItem(`carat.${name}`, JSON.stringify(value));
    } catch {
        // only for this visit, then
    }
}
