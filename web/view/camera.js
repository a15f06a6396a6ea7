// SPDX-License-Identifier: Apache-2.0
// A look through the camera and a picture of it.
import { h, iconButton, toast } from '../dom.js';
import { deviceError } from '../record.js';

let facing = 'environment'; // on a phone: the one on the back

function openCamera() {
    return navigator.mediaDevices.getUserMedia({ video: { facingMode: facing, width: { ideal: 1920 }, height: { ideal: 1080 } } });
}

// A JPEG file, or null.
export async function takePhoto() {
    let stream;
    try {
        stream = await openCamera();
    } catch (error) {
        toast(deviceError(error, 'camera'));
        return null;
    }
    const film = h('video', { autoplay: true, playsinline: true, muted: true, srcObject: stream });
    film.muted = true;
    return new Promise((resolve) => {
        let file = null;
        const shoot = async () => {
            const canvas = h('canvas', { width: film.videoWidth, height: film.videoHeight });
            canvas.getContext('2d').drawImage(film, 0, 0);
            const blob = await new Promise((made) => { canvas.toBlob(made, 'image/jpeg', 0.92); });
            file = blob && new File([blob], 'photo.jpg', { type: 'image/jpeg' });
            dialog.close();
        };
        const turn = async () => {
            facing = facing === 'user' ? 'environment' : 'user';
            stream.getTracks().forEach((track) => track.stop());
            try {
                stream = await openCamera();
                film.srcObject = stream;
            } catch (error) {
                toast(deviceError(error, 'camera'));
                dialog.close();
            }
        };
        const dialog = h('dialog', { class: 'camera', 'aria-label': 'Camera' }, film, h('div', { class: 'row' },
            h('button', { type: 'button', class: 'plain', onclick: () => dialog.close() }, 'Cancel'),
            h('button', { type: 'button', class: 'shutter', 'aria-label': 'Take the picture', title: 'Take the picture', onclick: shoot }),
            iconButton('turn', 'The other camera', turn)));
        dialog.addEventListener('close', () => {
            stream.getTracks().forEach((track) => track.stop());
            dialog.remove();
            resolve(file);
        });
        document.body.append(dialog);
        dialog.showModal();
        dialog.querySelector('.shutter').focus();
    });
}
