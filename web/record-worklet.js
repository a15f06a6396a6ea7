// SPDX-License-Identifier: Apache-2.0
// Runs on the browser's audio thread: hands over what comes in, 4096 samples at a time.
class TakeSamples extends AudioWorkletProcessor {
    constructor() {
        super();
        this.block = new Float32Array(4096);
        this.n = 0;
    }

    process(inputs) {
        const channel = inputs[0]?.[0];
        for (let i = 0; channel && i < channel.length; i++) {
            this.block[this.n++] = channel[i];
            if (this.n === this.block.length) {
                this.port.postMessage(this.block.slice());
                this.n = 0;
            }
        }
        return true;
    }
}
registerProcessor('take-samples', TakeSamples);
