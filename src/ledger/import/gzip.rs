//! Reading gzip (RFC 1952): AWS writes the spot data feed and reports so.
//!
//! Decides: how compressed data are read (DEFLATE, RFC 1951), and that damaged ones are refused by their checksum.
//! Does not: write any.

/// A file that is not the gzip it begins as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gzip data are damaged or cut off ({0}); fetch the file again")]
pub struct DamagedGzip(&'static str);

/// The least that every gzip file begins with.
const MAGIC: [u8; 2] = [0x1f, 0x8b];
/// Refuses files that unpack to more: what AWS writes an hour or a month of is far below.
const MOST_BYTES: usize = 8 << 30;

/// Unpacks `bytes` if they are gzip (one member or several); gives them back as they are if not.
///
/// # Errors
/// [`DamagedGzip`].
pub fn unpacked(bytes: Vec<u8>) -> Result<Vec<u8>, DamagedGzip> {
    if bytes.get(..2) != Some(&MAGIC[..]) {
        return Ok(bytes);
    }
    let (mut out, mut rest) = (Vec::with_capacity(bytes.len().saturating_mul(4)), bytes.as_slice());
    while rest.get(..2) == Some(&MAGIC[..]) {
        let begun = out.len();
        let mut bits = Bits { bytes: rest, at: header_length(rest)?, held: 0, count: 0 };
        inflate(&mut bits, &mut out, begun)?;
        let trailer = rest.get(bits.at..bits.at + 8).ok_or(DamagedGzip("no checksum"))?;
        let figure = |at: usize| trailer.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let member = &out[begun..];
        if figure(0) != crc32(member) || figure(4) != u32::try_from(member.len() & 0xffff_ffff).unwrap_or_default() {
            return Err(DamagedGzip("the checksum differs"));
        }
        rest = rest.get(bits.at + 8..).unwrap_or_default();
    }
    Ok(out)
}

/// Fixed header, then optional extra field, name, comment and checksum.
fn header_length(bytes: &[u8]) -> Result<usize, DamagedGzip> {
    let cut = DamagedGzip("no header");
    let (method, flags) = (*bytes.get(2).ok_or(cut)?, *bytes.get(3).ok_or(cut)?);
    if method != 8 {
        return Err(DamagedGzip("unknown method"));
    }
    let mut at = 10;
    if flags & 4 != 0 {
        let length = bytes.get(at..at + 2).ok_or(cut)?;
        at += 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            at += bytes.get(at..).and_then(|text| text.iter().position(|byte| *byte == 0)).ok_or(cut)? + 1;
        }
    }
    Ok(at + if flags & 2 != 0 { 2 } else { 0 })
}

/// Bits from the low end of each byte.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u32,
    count: u32,
}

impl Bits<'_> {
    fn take(&mut self, n: u32) -> Result<u32, DamagedGzip> {
        while self.count < n {
            let byte = *self.bytes.get(self.at).ok_or(DamagedGzip("it ends early"))?;
            self.held |= u32::from(byte) << self.count;
            (self.at, self.count) = (self.at + 1, self.count + 8);
        }
        let value = self.held & ((1 << n) - 1);
        (self.held, self.count) = (self.held >> n, self.count - n);
        Ok(value)
    }
}

/// A canonical Huffman code: how many codes each length has, and the symbols in order.
struct Code {
    counts: [u16; 16],
    symbols: Vec<u16>,
}

impl Code {
    fn new(lengths: &[u8]) -> Result<Self, DamagedGzip> {
        let mut counts = [0_u16; 16];
        for length in lengths {
            counts[usize::from(*length & 15)] += 1;
        }
        counts[0] = 0;
        let mut left = 1_i32;
        for count in &counts[1..] {
            left = left * 2 - i32::from(*count);
            if left < 0 {
                return Err(DamagedGzip("an impossible code"));
            }
        }
        let mut symbols: Vec<u16> = (0..u16::try_from(lengths.len()).unwrap_or(0)).filter(|s| lengths[usize::from(*s)] > 0).collect();
        symbols.sort_by_key(|symbol| (lengths[usize::from(*symbol)], *symbol));
        Ok(Code { counts, symbols })
    }

    fn symbol(&self, bits: &mut Bits) -> Result<u16, DamagedGzip> {
        let (mut code, mut first, mut index) = (0_i32, 0_i32, 0_i32);
        for count in &self.counts[1..] {
            code |= i32::try_from(bits.take(1)?).unwrap_or(0);
            let count = i32::from(*count);
            if code - count < first {
                let at = usize::try_from(index + code - first).unwrap_or(usize::MAX);
                return self.symbols.get(at).copied().ok_or(DamagedGzip("an unknown code"));
            }
            (index, first, code) = (index + count, (first + count) << 1, code << 1);
        }
        Err(DamagedGzip("an unknown code"))
    }
}

/// Base length of symbols 257 to 285, and how many more bits tell it exactly (RFC 1951, 3.2.5).
#[rustfmt::skip]
const LENGTHS: [(u16, u32); 29] = [
    (3, 0), (4, 0), (5, 0), (6, 0), (7, 0), (8, 0), (9, 0), (10, 0), (11, 1), (13, 1), (15, 1), (17, 1), (19, 2), (23, 2), (27, 2), (31, 2),
    (35, 3), (43, 3), (51, 3), (59, 3), (67, 4), (83, 4), (99, 4), (115, 4), (131, 5), (163, 5), (195, 5), (227, 5), (258, 0),
];
/// Base distance of symbols 0 to 29, likewise.
#[rustfmt::skip]
const DISTANCES: [(u16, u32); 30] = [
    (1, 0), (2, 0), (3, 0), (4, 0), (5, 1), (7, 1), (9, 2), (13, 2), (17, 3), (25, 3), (33, 4), (49, 4), (65, 5), (97, 5), (129, 6), (193, 6),
    (257, 7), (385, 7), (513, 8), (769, 8), (1025, 9), (1537, 9), (2049, 10), (3073, 10), (4097, 11), (6145, 11), (8193, 12), (12289, 12),
    (16385, 13), (24577, 13),
];
/// In which order the lengths of the code for code lengths come.
const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/// Blocks until the last one. `begun` is where this member's output starts: distances do not reach behind it.
fn inflate(bits: &mut Bits, out: &mut Vec<u8>, begun: usize) -> Result<(), DamagedGzip> {
    loop {
        let last = bits.take(1)? == 1;
        match bits.take(2)? {
            0 => stored(bits, out)?,
            1 => {
                let mut lengths = [8_u8; 288];
                lengths[144..256].fill(9);
                lengths[256..280].fill(7);
                compressed(bits, out, begun, &Code::new(&lengths)?, &Code::new(&[5; 30])?)?;
            }
            2 => {
                let (literals, distances) = dynamic_codes(bits)?;
                compressed(bits, out, begun, &literals, &distances)?;
            }
            _ => return Err(DamagedGzip("an unknown block")),
        }
        if last {
            return Ok(());
        }
    }
}

fn stored(bits: &mut Bits, out: &mut Vec<u8>) -> Result<(), DamagedGzip> {
    (bits.held, bits.count) = (0, 0);
    let head = bits.bytes.get(bits.at..bits.at + 4).ok_or(DamagedGzip("it ends early"))?;
    let (length, inverse) = (u16::from_le_bytes([head[0], head[1]]), u16::from_le_bytes([head[2], head[3]]));
    if length != !inverse {
        return Err(DamagedGzip("a stored block's length"));
    }
    let (from, to) = (bits.at + 4, bits.at + 4 + usize::from(length));
    out.extend_from_slice(bits.bytes.get(from..to).ok_or(DamagedGzip("it ends early"))?);
    bits.at = to;
    Ok(())
}

fn dynamic_codes(bits: &mut Bits) -> Result<(Code, Code), DamagedGzip> {
    let few = |n: u32| usize::try_from(n).unwrap_or(0);
    let (literals, distances, of_lengths) = (few(bits.take(5)?) + 257, few(bits.take(5)?) + 1, few(bits.take(4)?) + 4);
    let mut lengths = [0_u8; 19];
    for at in &ORDER[..of_lengths] {
        lengths[*at] = u8::try_from(bits.take(3)?).unwrap_or(0);
    }
    let code = Code::new(&lengths)?;
    let mut lengths: Vec<u8> = Vec::with_capacity(literals + distances);
    while lengths.len() < literals + distances {
        let (value, times) = match code.symbol(bits)? {
            symbol @ 0..=15 => (u8::try_from(symbol).unwrap_or(0), 1),
            16 => (*lengths.last().ok_or(DamagedGzip("a length of nothing"))?, 3 + bits.take(2)?),
            17 => (0, 3 + bits.take(3)?),
            _ => (0, 11 + bits.take(7)?),
        };
        lengths.extend(std::iter::repeat_n(value, few(times)));
    }
    let distance_lengths = lengths.get(literals..literals + distances).ok_or(DamagedGzip("too few lengths"))?;
    Ok((Code::new(&lengths[..literals])?, Code::new(distance_lengths)?))
}

fn compressed(bits: &mut Bits, out: &mut Vec<u8>, begun: usize, literals: &Code, distances: &Code) -> Result<(), DamagedGzip> {
    let exact = |table: &[(u16, u32)], symbol: u16, bits: &mut Bits| {
        let (base, more) = table.get(usize::from(symbol)).copied().ok_or(DamagedGzip("an unknown code"))?;
        Ok::<usize, DamagedGzip>(usize::from(base) + usize::try_from(bits.take(more)?).unwrap_or(0))
    };
    loop {
        match literals.symbol(bits)? {
            256 => return Ok(()),
            symbol @ 0..=255 => out.push(u8::try_from(symbol).unwrap_or(0)),
            symbol => {
                let length = exact(&LENGTHS, symbol - 257, bits)?;
                let distance = distances.symbol(bits)?;
                let distance = exact(&DISTANCES, distance, bits)?;
                let from =
                    out.len().checked_sub(distance).filter(|from| *from >= begun).ok_or(DamagedGzip("it reaches before its start"))?;
                if out.len() + length > MOST_BYTES {
                    return Err(DamagedGzip("it unpacks to more than 8 GiB"));
                }
                for at in from..from + length {
                    out.push(out[at]);
                }
            }
        }
    }
}

/// CRC-32 as gzip uses it: the reflected polynomial 0xEDB88320.
fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|n| {
        let byte = u32::try_from(n).unwrap_or(0);
        (0..8).fold(byte, |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    });
    !bytes.iter().fold(!0, |crc, byte| table[usize::from((crc as u8) ^ byte)] ^ (crc >> 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    /// The system's own gzip.
    fn gzip(arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
        let mut child = Command::new("gzip").args(arguments).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
        let mut stdin = child.stdin.take().unwrap();
        let bytes = bytes.to_vec();
        let writing = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
        let out = child.wait_with_output().unwrap().stdout;
        writing.join().unwrap();
        out
    }

    /// Text that repeats, figures that do not, and every byte there is.
    fn samples() -> Vec<Vec<u8>> {
        let lines: String = (0..5_000).map(|n| format!("2026-07-20 07:13:47 UTC\tUSE1-SpotUsage:g6.xlarge\ti-{:x}\n", n * 7_919)).collect();
        let mut noise = vec![0_u8; 100_000];
        let mut state = 1_u64;
        for byte in &mut noise {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
        vec![Vec::new(), b"a".to_vec(), lines.into_bytes(), noise, (0..=255).collect()]
    }

    #[test]
    fn what_gzip_packs_is_unpacked() {
        for sample in samples() {
            for level in ["-1", "-6", "-9"] {
                assert_eq!(unpacked(gzip(&[level], &sample)).unwrap(), sample, "{level}");
            }
        }
        let two = [gzip(&["-9"], b"first "), gzip(&["-1"], b"second")].concat();
        assert_eq!(unpacked(two).unwrap(), b"first second");
        assert_eq!(unpacked(b"plain".to_vec()).unwrap(), b"plain");
    }

    #[test]
    fn damage_is_found_and_nothing_panics() {
        let packed = gzip(&["-6"], &samples()[2][..40_000]);
        for cut in [3, 9, 11, 100, packed.len() - 9, packed.len() - 1] {
            assert!(unpacked(packed[..cut].to_vec()).is_err(), "cut at {cut} passed");
        }
        for at in (10..packed.len()).step_by(97) {
            let mut bad = packed.clone();
            bad[at] ^= 0x55;
            assert!(unpacked(bad).is_err(), "a changed byte at {at} passed");
        }
    }
}
