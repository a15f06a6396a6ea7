// SPDX-License-Identifier: Apache-2.0
// The microphone as 16 kHz mono samples, the form the model hears; the camera as pictures. Both need
// a page on localhost or over https: elsewhere browsers offer neither.

export const RATE = 16000;

export function whyNoDevices() {
    return navigator.mediaDevices?.getUserMedia ? ''
        : 'The browser gives the microphone and the camera only to pages on this computer (localhost) or over https.';
}

export function deviceError(error, what) {
    switch (error.name) {
    case 'NotAllowedError':
        return `The browser does not let this page use the ${what}. Allow it beside the address, then try again.`;
    case 'NotFoundError':
    case 'OverconstrainedError':
        return `No ${what} was found.`;
    case 'NotReadableError':
        return `Another program is using the ${what}.`;
    default:
        return `The ${what} does not work: ${error.message}`;
    }
}

// From any rate to 16 kHz, piece by piece: a sample depends on what is around it and not on where the
// pieces were cut, so that a recording begins the same each time it is sent. A sinc under a Hann
// window, 16 zero crossings to each side.
export class Resampler {
    constructor(rate) {
        this.step = rate / RATE;
        this.cutoff = Math.min(1, RATE / rate) * 0.95;
        this.reach = Math.ceil(16 / this.cutoff);
        this.input = new Float32Array(this.reach); // silence before the beginning
        this.position = this.reach; // of the next output, in this.input
    }

    push(samples) {
        const joined = new Float32Array(this.input.length + samples.length);
        joined.set(this.input);
        joined.set(samples, this.input.length);
        const out = [];
        while (this.position + this.reach < joined.length) {
            out.push(this.at(joined, this.position));
            this.position += this.step;
        }
        const gone = Math.max(0, Math.floor(this.position) - this.reach);
        this.input = joined.slice(gone);
        this.position -= gone;
        return out;
    }

    at(input, position) {
        const first = Math.max(0, Math.ceil(position - this.reach));
        const last = Math.min(input.length - 1, Math.floor(position + this.reach));
        let sum = 0;
        for (let i = first; i <= last; i++) {
            const x = i - position;
            const angle = Math.PI * x * this.cutoff;
            const sinc = Math.abs(angle) < 1e-9 ? 1 : Math.sin(angle) / angle;
            sum += input[i] * sinc * this.cutoff * (0.5 + 0.5 * Math.cos(Math.PI * x / this.reach));
        }
        return sum;
    }
}

// A PCM WAV file of 16 bits.
export function wavOf(samples) {
    const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const word = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
    word(0, 'RIFF');
    view.setUint32(4, 36 + 2 * samples.length, true);
    word(8, 'WAVEfmt ');
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true);
    view.setUint16(22, 1, true);
    view.setUint32(24, RATE, true);
    view.setUint32(28, 2 * RATE, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    word(36, 'data');
    view.setUint32(40, 2 * samples.length, true);
    samples.forEach((x, i) => view.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, x)) * 32767), true));
    return new Blob([view.buffer], { type: 'audio/wav' });
}

export class Recorder {
    // onLevel(loudness 0..1, seconds) comes some ten times a second.
    async start(onLevel) {
        this.samples = [];
        this.stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
        try {
            this.context = new AudioContext();
            await this.context.audioWorklet.addModule(new URL('./record-worklet.js', import.meta.url));
            const resampler = new Resampler(this.context.sampleRate);
            const node = new AudioWorkletNode(this.context, 'take-samples', { numberOfOutputs: 0 });
            node.port.onmessage = ({ data }) => {
                const piece = resampler.push(data);
                for (const sample of piece) {
                    this.samples.push(sample);
                }
                const power = piece.reduce((sum, x) => sum + x * x, 0) / Math.max(1, piece.length);
                onLevel(Math.min(1, Math.sqrt(power) * 5), this.seconds);
            };
            this.context.createMediaStreamSource(this.stream).connect(node);
            await this.context.resume();
        } catch (error) {
            await this.stop();
            throw error;
        }
    }

    get seconds() {
        return this.samples.length / RATE;
    }

    async stop() {
        this.stream?.getTracks().forEach((track) => track.stop());
        await this.context?.close().catch(() => {});
        this.context = null;
    }

    // What was said so far, or its beginning.
    part(seconds) {
        const n = seconds ? Math.min(this.samples.length, Math.floor(seconds * RATE)) : this.samples.length;
        const blob = wavOf(this.samples.slice(0, n));
        return { id: crypto.getRandomValues(new Uint32Array(1))[0], kind: 'audio', name: 'recording.wav', type: 'audio/wav', size: blob.size, blob, seconds: n / RATE };
    }
}
