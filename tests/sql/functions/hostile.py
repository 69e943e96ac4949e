"""Damaged blocks: real ones with bytes changed, with or without checksums that fit again (docs/block-format.md).

Without a right checksum a reader stops at the first test; with one, each length and number is tried.
"""
import struct


def crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


CRC_TABLE = crc_table()


def crc32c(*parts):
    crc = 0xffffffff
    for part in parts:
        for byte in part:
            crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def repaired(raw):
    """The same bytes with checksums that fit, where the header can be read at all."""
    out = bytearray(raw)
    if len(out) < 24 or out[:2] != b"PB":
        return bytes(out)
    if out[3] == 1:
        out[8:12] = struct.pack("<I", crc32c(out[:8], out[12:]))
        return bytes(out)
    head = struct.unpack_from("<I", out, 12)[0]
    if 24 <= head <= len(out):
        out[16:20] = struct.pack("<I", len(out) - head)
        out[20:24] = struct.pack("<I", crc32c(out[head:]))
        out[8:12] = struct.pack("<I", crc32c(out[:8], out[12:head]))
    return bytes(out)


def mutated(random, raw):
    """A block with some of its bytes changed, cut, doubled, or put elsewhere."""
    out = bytearray(raw)
    for _ in range(random.choice([1, 1, 1, 2, 4, 16])):
        if not out:
            return bytes(random.randbytes(random.randrange(0, 40)))
        at = random.randrange(len(out))
        if random.random() < 0.4:
            at = min(at, random.randrange(1, 80))
        what = random.randrange(7)
        if what == 0:
            out[at] ^= 1 << random.randrange(8)
        elif what == 1:
            out[at] = random.choice([0, 1, 0x7f, 0x80, 0xff])
        elif what == 2:
            del out[max(at, len(out) - random.randrange(1, 200)):]
        elif what == 3:
            del out[at:at + random.randrange(1, 9)]
        elif what == 4:
            out[at:at] = random.randbytes(random.randrange(1, 9))
        elif what == 5:
            width = random.choice([2, 4, 8])
            out[at:at + width] = random.choice([b"\xff", b"\x00", b"\x7f"]) * width
        else:
            out += out[at:]
    return repaired(out) if random.random() < 0.7 else bytes(out)


class Header:
    """What the header of a block says: the columns of its row."""

    def __init__(self, raw):
        self.raw = raw
        self.at = 12 if raw[3] == 1 else 24
        self.format, self.kind, self.level = raw[3], raw[4], raw[5]
        self.tenant_id = self.signed()
        self.metric_id = self.signed()
        self.dist_key = None
        if raw[6] & 2:
            self.dist_key = struct.unpack_from("<q", raw, self.at)[0]
            self.at += 8
        self.n_series, self.n_samples = self.varint(), self.varint()
        self.series_lo = self.signed()
        self.series_hi = self.series_lo + self.varint()
        self.t_min = self.signed()
        self.t_max = self.t_min + self.varint()

    def varint(self):
        n = shift = 0
        while shift < 70:
            byte = self.raw[self.at]
            self.at += 1
            n |= (byte & 127) << shift
            if byte < 128:
                return n
            shift += 7
        raise ValueError("a varint of more than 10 bytes")

    def signed(self):
        z = self.varint()
        return z >> 1 ^ -(z & 1)

    def fits(self):
        """Would PostgreSQL's columns take it?"""
        return (all(-1 << 31 <= n < 1 << 31 for n in (self.tenant_id, self.metric_id, self.n_series, self.n_samples))
                and all(-1 << 63 <= n < 1 << 63 for n in (self.series_lo, self.series_hi))
                and all(-210866803200000 <= t <= 9224318015999999 for t in (self.t_min, self.t_max)))


def header(raw):
    """Header of a block, or None where there is none."""
    try:
        found = Header(raw)
    except (IndexError, ValueError, struct.error):
        return None
    return found if found.fits() else None
