#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Files that lie: small ones that stand for gigabytes or for hours of work, and whole ones cut
short. Makes them one after the other and has each read by a program: it must be refused, soon and
without taking much memory.
    make_bombs.py READ_MEDIA SAMPLES... [--any-memory]
READ_MEDIA is tests/media/read_media; samples are files, or folders of files, that are sound. With
sanitizers in the program memory means nothing: --any-memory."""
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib

SECONDS_MAX = 10
MEMORY_MAX = 300 << 20
KINDS = {"jpg": "image", "jpeg": "image", "png": "image", "webp": "image", "gif": "image",
         "bmp": "image", "tiff": "image", "heic": "image", "avif": "image",
         "mp3": "audio", "flac": "audio", "ogg": "audio", "opus": "audio", "m4a": "audio",
         "mp4": "video", "mov": "video", "webm": "video", "mkv": "video", "avi": "video"}


# ------------------------------------------------------------------------------------ pictures

def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width, height, depth, colour, rows, more=b""):
    """rows: the packed rows; more: chunks before them."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + more + png_chunk(b"IDAT", rows) +
            png_chunk(b"IEND", b""))


def zeros(size):
    """size zero bytes, packed."""
    packer = zlib.compressobj(9)
    parts = []
    while size > 0:
        n = min(size, 1 << 20)
        parts.append(packer.compress(bytes(n)))
        size -= n
    return b"".join(parts) + packer.flush()


def jpeg_segments(data):
    """(marker, segment with its coded data) after SOI."""
    at = 2
    while at < len(data) and data[at + 1] != 0xd9:
        end = at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        if data[at + 1] == 0xda:
            while not (data[end] == 0xff and data[end + 1] not in (0, *range(0xd0, 0xd8))):
                end += 1
        yield data[at + 1], data[at:end]
        at = end


def jpeg_of_scans(sample, n):
    parts = list(jpeg_segments(sample))
    last = [part for marker, part in parts if marker == 0xda][-1]
    return b"\xff\xd8" + b"".join(part for _, part in parts) + last * n + b"\xff\xd9"


def jpeg_of_size(sample, width, height):
    parts = []
    for marker, part in jpeg_segments(sample):
        if marker in (0xc0, 0xc2):
            part = part[:5] + struct.pack(">HH", height, width) + part[9:]
        parts.append(part)
    return b"\xff\xd8" + b"".join(parts) + b"\xff\xd9"


def bmp(width, height):
    return (b"BM" + struct.pack("<IHHI", 1 << 20, 0, 0, 54) +
            struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 1, 1, 0, 0) + bytes(4096))


def tiff(width, height, strip_size):
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, strip_size)]
    body = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(200)


def webp_of_canvas(width, height):
    size = struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    picture = b"VP8L" + struct.pack("<I", 10) + b"\x2f" + b"\xff" * 9
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + size + picture
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif(width, height):
    frame = b"\x2c" + struct.pack("<HHHH", 0, 0, width, height) + b"\x00\x02\x02\x4c\x01\x00;"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x80\0\0" + bytes(6) + frame


# --------------------------------------------------------------------------- sounds and films

def box(kind, *parts):
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def header_box(kind, units, duration):
    return box(kind, bytes(12), struct.pack(">II", units, duration), bytes(80))


def track(*tables):
    handler = box(b"hdlr", bytes(8), b"vide", bytes(13))
    entry = box(b"mp4v", bytes(6), b"\0\1", bytes(16), struct.pack(">HH", 16, 16), bytes(50))
    description = box(b"stsd", bytes(4), struct.pack(">I", 1), entry)
    table = box(b"stbl", description, *tables)
    return box(b"trak", box(b"tkhd", bytes(84)),
               box(b"mdia", header_box(b"mdhd", 1000, 1000), handler, box(b"minf", table)))


def mp4(*parts):
    return box(b"ftyp", b"isom", bytes(4), b"isom") + b"".join(parts) + box(b"mdat", bytes(4096))


def full(kind, *numbers):
    return box(kind, bytes(4), struct.pack(">%dI" % len(numbers), *numbers))


def nested(kind, depth):
    data = b""
    for _ in range(depth):
        data = box(kind, data)
    return data


def mp4_bombs():
    mvhd = header_box(b"mvhd", 1000, 1000)
    times = full(b"stts", 1, 1 << 27, 5)
    chunks = [full(b"stsc", 1, 1, 1 << 30, 1), full(b"stco", 1, 100)]
    yield "10000-tracks.mp4", mp4(box(b"moov", mvhd, *[track()] * 10000))
    yield "absurd-duration.mp4", mp4(box(b"moov", header_box(b"mvhd", 1, 0xfffffffe), track()))
    yield "samples-of-a-byte.mp4", mp4(box(b"moov", mvhd, track(
        times, *chunks, full(b"stsz", 1, 1 << 27))))
    yield "samples-without-table.mp4", mp4(box(b"moov", mvhd, track(
        times, *chunks, full(b"stsz", 0, 1 << 30))))
    yield "chunks-of-samples.mp4", mp4(box(b"moov", mvhd, track(
        full(b"stts", 1, 1 << 31, 1), full(b"stsc", 1, 1, 1 << 31, 1),
        full(b"stco", 1000, *[100] * 1000), full(b"stsz", 1, 4000))))
    yield "edits.mp4", mp4(box(b"moov", mvhd, track(
        full(b"stts", 1, 4000, 1), *chunks, full(b"stsz", 1, 4000)).replace(b"mdia", b"free", 1)),
        box(b"moov", mvhd, box(b"trak", box(b"edts", full(
            b"elst", 20000, *[1000, 0, 65536] * 20000)), box(b"mdia", box(b"minf", box(
                b"stbl", full(b"stsz", 1, 4000)))))))
    yield "runs.mp4", mp4(box(b"moov", mvhd, track(), box(b"mvex", full(b"trex", 1, 1, 5, 1, 0))),
                          box(b"moof", full(b"mfhd", 1), box(
                              b"traf", full(b"tfhd", 1), full(b"trun", 1 << 28))))
    yield "keys.mp4", mp4(box(b"moov", mvhd, track(), box(b"meta", full(b"keys", 1 << 28))))
    yield "packed-header.mp4", mp4(box(b"moov", box(
        b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", struct.pack(">I", 1 << 31), zeros(1 << 20)))))
    yield "nested.mp4", mp4(box(b"moov", mvhd, nested(b"udta", 5000)))
    yield "endless-box.mp4", mp4(box(b"moov", mvhd, track()))[:-4096] + struct.pack(
        ">I4sQ", 1, b"free", (1 << 63) - 1) + bytes(100)


def with_number(data, name, at, number):
    """A big-endian 32-bit number put in so many bytes behind a name."""
    found = data.index(name) + at
    return data[:found] + struct.pack(">I", number) + data[found + 4:]


def sound_bombs(samples):
    def wav(size):
        return (b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " +
                struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16) + b"data" +
                struct.pack("<I", size) + bytes(64))
    yield "2-gigabytes.wav", "error", wav(0x7fffffff)
    yield "no-format.wav", "error", wav(1000).replace(b"fmt ", b"fmtx")
    if "flac" in samples:  # 2^36 samples: the last number of the stream's description
        data = samples["flac"]
        yield "absurd-length.flac", "error", data[:21] + b"\xff" + b"\xff\xff\xff\xff" + data[26:]
    if "mp3" in samples:
        data = samples["mp3"]
        mark = b"Xing" if b"Xing" in data else b"Info"
        yield "absurd-length.mp3", "error", with_number(data, mark, 8, 0xfffffff0)
        tag = b"ID3\4\0\0" + bytes([0x7f, 0x7f, 0x7f, 0x7f])
        yield "endless-tag.mp3", "error", tag + data


def picture_bombs(samples):
    row = (30000 + 7) // 8 + 1
    yield "30000.png", "error", png(30000, 30000, 1, 0, zeros(row * 30000))
    yield "2-to-the-31.png", "error", png(0x7fffffff, 0x7fffffff, 8, 6, zeros(1000))
    yield "no-size.png", "error", png(0, 0, 8, 6, zeros(1000))
    yield "too-few-rows.png", "error", png(1000, 1000, 8, 2, zeros(3001 * 500))
    text = png_chunk(b"zTXt", b"Comment\0\0" + zeros(1 << 30))
    yield "packed-text.png", "any", png(8, 8, 8, 0, zeros(9 * 8), text)
    yield "profile.png", "any", png(8, 8, 8, 0, zeros(9 * 8), png_chunk(
        b"iCCP", b"icc\0\0" + zeros(1 << 30)))
    yield "canvas.gif", "error", gif(65535, 65535)
    yield "2-to-the-31.bmp", "error", bmp(0x7fffffff, 0x7fffffff)
    yield "lying.bmp", "error", bmp(9000, -9000)
    yield "lying.tiff", "error", tiff(9000, 9000, 81000000)
    yield "2-to-the-32.tiff", "error", tiff(0xffffffff, 0xffffffff, 100)
    yield "canvas.webp", "error", webp_of_canvas(1 << 24, 1 << 24)
    if "jpg" in samples:
        yield "5000-scans.jpg", "error", jpeg_of_scans(samples["jpg"], 5000)
        yield "huge.jpg", "error", jpeg_of_size(samples["jpg"], 65500, 65500)
        yield "large-and-empty.jpg", "error", jpeg_of_size(samples["jpg"], 5000, 5000)
    if "heic" in samples:
        data = samples["heic"]
        yield "huge.heic", "error", with_number(with_number(
            data, b"ispe", 8, 0x7fffffff), b"ispe", 12, 0x7fffffff)


def film_bombs(samples):
    for name, data in mp4_bombs():
        yield name, "error", data
    if "mp4" in samples:
        for table in (b"mvhd", b"mdhd"):
            yield "duration-of-%s.mp4" % table.decode(), "error", with_number(
                samples["mp4"], table, 20, 0xfffffffe)
    if "webm" in samples:
        data = samples["webm"]
        at = data.index(b"\x44\x89\x88") + 3  # the duration: a float of 8 bytes
        yield "absurd-duration.webm", "error", data[:at] + struct.pack(">d", 1e12) + data[at + 8:]


def cut(path, data):
    for i in (1, 4, 7):
        yield "cut-%d-%s" % (i, os.path.basename(path)), "error", data[:len(data) * i // 8]


# --------------------------------------------------------------------------------------- check

def find_samples(paths):
    for path in paths:
        names = [path]
        if os.path.isdir(path):
            names = sorted(os.path.join(path, name) for name in os.listdir(path))
        for name in names:
            if name.rsplit(".", 1)[-1] in KINDS:
                yield name


def read(program, kind, path):
    """(exit code, line, seconds, bytes of memory); the code is negative when it crashed."""
    started = time.monotonic()
    child = subprocess.Popen([program, kind, path], stdout=subprocess.PIPE)
    line = child.stdout.read().decode(errors="replace").strip()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    scale = 1 if sys.platform == "darwin" else 1024
    return child.returncode, line, time.monotonic() - started, usage.ru_maxrss * scale


def check(program, folder, name, expected, data, any_memory):
    path = os.path.join(folder, name)
    with open(path, "wb") as out:
        out.write(data)
    kind = KINDS.get(name.rsplit(".", 1)[-1], "audio")
    code, line, seconds, memory = read(program, kind, path)
    os.remove(path)
    problems = []
    if code not in (0, 1):
        problems.append("crashed (%d)" % code)
    if expected == "error" and code == 0:
        problems.append("was read")
    if seconds > SECONDS_MAX:
        problems.append("took %.1f s" % seconds)
    if memory > MEMORY_MAX and not any_memory:
        problems.append("took %d MB" % (memory >> 20))
    print("%-28s %5.2f s %4d MB  %s%s" % (name, seconds, memory >> 20,
                                         "FAILED: %s: " % ", ".join(problems) if problems else "",
                                         line.replace(path, name)))
    return not problems


def bombs(paths):
    samples = {}
    for path in paths:
        with open(path, "rb") as file:
            data = file.read()
        kind = path.rsplit(".", 1)[-1]
        if kind != "jpg" or b"\xff\xc2" in data:  # scans can be added to a progressive JPEG
            samples.setdefault(kind, data)
        # What was missing of a GIF's later pictures does not matter to the first.
        if kind != "gif":
            yield from cut(path, data)
    yield from picture_bombs(samples)
    yield from sound_bombs(samples)
    yield from film_bombs(samples)


def main():
    any_memory = "--any-memory" in sys.argv
    arguments = [a for a in sys.argv[1:] if a != "--any-memory"]
    if len(arguments) < 1:
        sys.exit(__doc__)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    failed = 0
    n = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, expected, data in bombs(list(find_samples(arguments[1:]))):
            n += 1
            failed += not check(arguments[0], folder, name, expected, data, any_memory)
    print("%d files, %d failed" % (n, failed))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
