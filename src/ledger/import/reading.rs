//! Files as they come, line by line: CSV, plain or in gzip or zip, and Parquet.
//!
//! Decides: what a file is (by its first bytes, not its name), that it is read once, in bounded memory and to its end, and that a damaged or cut one
//! is refused: every member of a gzip file, every entry of a zip file.
//! Does not: know what the columns mean.

use std::cell::Cell;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;
use std::rc::Rc;

use parquet::basic::{Compression, LogicalType, TimeUnit};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use sha2::{Digest, Sha256};

use super::table::{Header, Line};
use super::{ImportFault, Options};
use crate::ledger::parquet_rows::{rows, step};
use crate::ledger::seal::hex;

/// What one `read` asks for.
const BUFFER: usize = 1 << 18;
/// The longest line: those of reports have some KB, and a file of a hundred KB may unpack to one of a hundred MB.
pub(super) const MOST_LINE: usize = 1 << 20;

/// A file that was read to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFile {
    /// Its name, without folders.
    pub name: String,
    /// SHA-256 of its bytes, in hex.
    pub sha256: String,
    /// Its lines, headers not counted.
    pub lines: u64,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Plain,
    Gzip,
    Zip,
    Parquet,
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> ImportFault {
    let path = path.to_path_buf();
    move |cause| ImportFault::Unreadable { path: path.clone(), cause }
}

/// The SHA-256 of a file's bytes, in hex.
pub(super) fn sha256_of(path: &Path) -> Result<String, ImportFault> {
    let fault = unreadable(path);
    let mut file = File::open(path).map_err(&fault)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = file.read(&mut buffer).map_err(&fault)?;
        match buffer.get(..read) {
            None | Some([]) => return Ok(hex(&digest.finalize())),
            Some(bytes) => digest.update(bytes),
        }
    }
}

/// The SHA-256 of what a file says, whatever it is packed in: the same report, plain and packed, is once.
pub(super) fn content_of(path: &Path) -> Result<String, ImportFault> {
    match wrapping(path)? {
        Wrapping::Plain | Wrapping::Parquet => sha256_of(path),
        Wrapping::Gzip | Wrapping::Zip => with_text(path, |text| {
            let mut digest = Sha256::new();
            loop {
                let piece = text.fill_buf().map_err(|cause| damaged(path, &cause))?;
                if piece.is_empty() {
                    return Ok(hex(&digest.finalize()));
                }
                digest.update(piece);
                let length = piece.len();
                text.consume(length);
            }
        }),
    }
}

fn wrapping(path: &Path) -> Result<Wrapping, ImportFault> {
    let mut magic = [0; 4];
    let mut file = File::open(path).map_err(unreadable(path))?;
    let length = file.read(&mut magic).map_err(unreadable(path))?;
    Ok(match (length, &magic) {
        (2.., [0x1f, 0x8b, ..]) => Wrapping::Gzip,
        (4, b"PK\x03\x04" | b"PK\x05\x06") => Wrapping::Zip,
        (4, b"PAR1") => Wrapping::Parquet,
        _ => Wrapping::Plain,
    })
}

/// The text of a file, unpacked, as a stream; of a zip file its only entry. Parquet has none.
pub(super) fn with_text<T>(path: &Path, read: impl FnOnce(&mut dyn BufRead) -> Result<T, ImportFault>) -> Result<T, ImportFault> {
    let file = BufReader::with_capacity(BUFFER, File::open(path).map_err(unreadable(path))?);
    match wrapping(path)? {
        Wrapping::Plain => read(&mut { file }),
        Wrapping::Gzip => {
            let mut text = BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(file));
            let done = read(&mut text)?;
            // Whoever read the lines may have stopped before the last checksum.
            std::io::copy(&mut text, &mut std::io::sink()).map_err(|cause| damaged(path, &cause))?;
            Ok(done)
        }
        Wrapping::Zip => in_zip(path, file, read),
        Wrapping::Parquet => Err(malformed(path, 1, "expected text, found Parquet".into())),
    }
}

fn in_zip<T>(path: &Path, file: impl Read + Seek, read: impl FnOnce(&mut dyn BufRead) -> Result<T, ImportFault>) -> Result<T, ImportFault> {
    let bad = |cause: zip::result::ZipError| ImportFault::Damaged { path: path.to_path_buf(), cause: cause.to_string() };
    let mut archive = zip::ZipArchive::new(file).map_err(bad)?;
    // macOS packs its own notes about each file beside it.
    let count = archive.len();
    let mut is_file = |n: usize| archive.by_index_raw(n).is_ok_and(|entry| entry.is_file() && !entry.name().starts_with("__MACOSX/"));
    let files: Vec<usize> = (0..count).filter(|n| is_file(*n)).collect();
    let [only] = files.as_slice() else {
        let fault = format!("a zip file with one file in it is expected, found {}: unpack it and give its files", files.len());
        return Err(malformed(path, 1, fault));
    };
    let mut text = BufReader::with_capacity(BUFFER, archive.by_index(*only).map_err(bad)?);
    let done = read(&mut text)?;
    std::io::copy(&mut text, &mut std::io::sink()).map_err(|cause| damaged(path, &cause))?;
    Ok(done)
}

fn damaged(path: &Path, cause: &std::io::Error) -> ImportFault {
    ImportFault::Damaged { path: path.to_path_buf(), cause: cause.to_string() }
}

pub(super) fn malformed(path: &Path, line: u64, fault: String) -> ImportFault {
    ImportFault::Malformed { path: path.to_path_buf(), line, fault }
}

/// Text of which only so much is read as may be kept in memory; what is beyond is a fault.
pub(super) struct Bounded<'a> {
    text: &'a mut dyn BufRead,
    left: Rc<Cell<usize>>,
}

impl<'a> Bounded<'a> {
    /// `text`, and how much of it may still be read: whoever has the number sets it again when what was read is kept no longer.
    pub(super) fn new(text: &'a mut dyn BufRead, most: usize) -> (Self, Rc<Cell<usize>>) {
        let left = Rc::new(Cell::new(most));
        (Bounded { text, left: Rc::clone(&left) }, left)
    }
}

impl Read for Bounded<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.text.read(into)?;
        let left = self.left.get().checked_sub(read);
        self.left.set(left.ok_or(std::io::ErrorKind::FileTooLarge)?);
        Ok(read)
    }
}

/// A fault of reading bytes while text was expected.
pub(super) fn while_reading(path: &Path, line: u64, cause: &std::io::Error) -> ImportFault {
    match cause.kind() {
        std::io::ErrorKind::FileTooLarge => {
            malformed(path, line, format!("a line of more than {MOST_LINE} bytes; expected lines of some KB"))
        }
        std::io::ErrorKind::InvalidData if cause.to_string().contains("UTF-8") => malformed(path, line, "not UTF-8 text".into()),
        _ => damaged(path, cause),
    }
}

/// Reads a file with a header; `each` gets every line. `wanted` names the columns that are read: no other column of a Parquet file is, and none of
/// them may be there twice.
///
/// A header that comes again in the middle begins another part: files are put together by `cat`. One with other columns is refused.
pub(super) fn each_line(
    path: &Path,
    required: &[&str],
    wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<ReadFile, ImportFault> {
    let lines = match wrapping(path)? {
        Wrapping::Parquet => each_parquet_row(path, required, &wanted, &mut each)?,
        _ => with_text(path, |text| each_csv_record(path, text, (required, &wanted), &mut each))?,
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(ReadFile { name, sha256: sha256_of(path)?, lines })
}

/// As [`each_line`], of a file in a form of our own: a column that is not among `known` is refused.
pub(super) fn each_known_line(
    path: &Path,
    (required, known): (&[&str], &[&str]),
    options: &mut Options,
    mut each: impl FnMut(&Line, &mut Options) -> Result<(), ImportFault>,
) -> Result<ReadFile, ImportFault> {
    let mut looked_at_header = false;
    each_line(
        path,
        required,
        |_| true,
        |line| {
            if !std::mem::replace(&mut looked_at_header, true) {
                line.header.refuse_unknown(path, known, &mut options.checks)?;
            }
            each(line, options)
        },
    )
}

/// Leaves out the mark that Excel and others put before UTF-8, and refuses UTF-16 by name: what follows would look like damage.
fn after_mark(path: &Path, text: &mut dyn BufRead) -> Result<(), ImportFault> {
    let start = text.fill_buf().map_err(|cause| while_reading(path, 1, &cause))?;
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            Err(malformed(path, 1, "the text is UTF-16; expected UTF-8: save it as \"CSV UTF-8 (comma delimited)\"".into()))
        }
        [0xef, 0xbb, 0xbf, ..] => {
            text.consume(3);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What separates the columns when it is not a comma, as Excel saves files where the comma is the decimal sign. Its amounts and dates are written in
/// that country's way as well, so that the file is refused and not guessed at.
fn other_separator(names: &csv::StringRecord) -> Option<&'static str> {
    let only = names.get(0).filter(|_| names.len() == 1)?;
    [(';', "semicolons"), ('\t', "tabs"), ('|', "vertical bars")].into_iter().find(|(sign, _)| only.contains(*sign)).map(|(_, name)| name)
}

/// What is put behind the text: where it does not stand on a line of its own, the text ended within quotes.
const END: &str = "\n\0the end\n";

/// Refuses a record that swallowed what stands behind the text.
fn refuse_open_quote(path: &Path, line: u64, record: &csv::StringRecord) -> Result<(), ImportFault> {
    match record.iter().next_back() {
        Some(last) if last.ends_with(END.trim_matches('\n')) || last.ends_with(END) => {
            Err(malformed(path, line, "the text ends within a quoted value: the file was cut off; fetch it again".into()))
        }
        _ => Ok(()),
    }
}

/// Whether a column of this name is wanted.
type WantedColumn<'a> = &'a dyn Fn(&str) -> bool;

/// Reads CSV with a header; gives how many lines there were. Rows without any value, which spreadsheets leave at the end, are no lines.
pub(super) fn each_csv_record(
    path: &Path,
    text: &mut dyn BufRead,
    (required, wanted): (&[&str], WantedColumn<'_>),
    each: &mut dyn FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<u64, ImportFault> {
    after_mark(path, text)?;
    // The reader counts a line feed after a carriage return to the line that comes next.
    let behind = text.fill_buf().map_err(|cause| while_reading(path, 1, &cause))?.windows(2).find(|pair| pair[1] == b'\n');
    let behind = u64::from(behind.is_some_and(|pair| pair[0] == b'\r'));
    let (text, left) = Bounded::new(text, MOST_LINE);
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.chain(END.as_bytes()));
    let fault = |line: u64, fault: csv::Error| match fault.kind() {
        csv::ErrorKind::Io(cause) => while_reading(path, line, cause),
        csv::ErrorKind::Utf8 { pos, .. } => malformed(path, pos.as_ref().map_or(line, csv::Position::line), "not UTF-8 text".into()),
        _ => malformed(path, line, fault.to_string()),
    };
    let names = reader.headers().map_err(|cause| fault(1, cause))?.clone();
    if names.is_empty() || names.iter().eq([END.trim_matches('\n')]) {
        return Err(malformed(path, 1, "the file is empty; expected a header".into()));
    }
    refuse_open_quote(path, 1, &names)?;
    if let Some(separator) = other_separator(&names) {
        let fault = format!(
            "the columns are separated by {separator}; expected commas, points in amounts (1234.50) and days as 2026-07-20: export the file again with \
             English settings, not by opening it in a spreadsheet"
        );
        return Err(malformed(path, 1, fault));
    }
    let header = Header::new(names.iter());
    header.require(path, 1, required)?;
    header.refuse_repeated(path, wanted)?;
    let nameless: Vec<usize> = names.iter().enumerate().filter(|(_, name)| name.trim().is_empty()).map(|(at, _)| at).collect();
    let mut record = csv::StringRecord::new();
    let (mut lines, mut part) = (0, 0);
    loop {
        left.set(MOST_LINE);
        let at = reader.position().line();
        if !reader.read_record(&mut record).map_err(|cause| fault(at, cause))? || record.iter().eq([END.trim_matches('\n')]) {
            return Ok(lines);
        }
        refuse_open_quote(path, record.position().map_or(at, csv::Position::line) + behind, &record)?;
        let values: Vec<&str> = record.iter().collect();
        // A mark in the middle is from a file that was put behind another.
        if values.iter().map(|value| value.trim_start_matches('\u{feff}')).eq(names.iter()) {
            part += 1;
            continue;
        }
        if values.iter().all(|value| value.trim().is_empty()) {
            continue;
        }
        let number = record.position().map_or(0, csv::Position::line) + behind;
        if values.iter().filter(|value| header.has(&super::table::column_name(value))).count() > values.len() / 2 {
            return Err(malformed(path, number, "a second header with other columns: these are two files in one; give them apart".into()));
        }
        if values.len() != names.len() {
            let fault = format!("{} values for {} columns: the line is damaged or the file was cut", values.len(), names.len());
            return Err(malformed(path, number, fault));
        }
        if let Some(value) = nameless.iter().find_map(|at| values.get(*at).filter(|value| !value.trim().is_empty())) {
            return Err(malformed(path, number, format!("the value {value:?} stands in a column without a name")));
        }
        lines += 1;
        each(&Line { path, number, part, header: &header, values: &values })?;
    }
}

fn each_parquet_row(
    path: &Path,
    required: &[&str],
    wanted: &dyn Fn(&str) -> bool,
    each: &mut dyn FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<u64, ImportFault> {
    let bad = |cause: parquet::errors::ParquetError| ImportFault::Damaged { path: path.to_path_buf(), cause: cause.to_string() };
    let file = File::open(path).map_err(unreadable(path))?;
    let reader = step(|| SerializedFileReader::new(file)).map_err(bad)?;
    for group in reader.metadata().row_groups() {
        let packed = |column: &parquet::file::metadata::ColumnChunkMetaData| column.compression();
        let other = group
            .columns()
            .iter()
            .map(packed)
            .find(|packing| !matches!(packing, Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_)));
        if let Some(other) = other {
            let fault = format!("the Parquet file is compressed by {other}; expected Snappy, gzip or no compression: export it again so");
            return Err(malformed(path, 1, fault));
        }
    }
    let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
    let fields: Vec<_> = schema.get_fields().iter().filter(|field| wanted(&super::table::column_name(field.name()))).cloned().collect();
    let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let header = Header::new(names.iter().map(String::as_str)).and_unread(schema.get_fields().iter().map(|field| field.name()));
    header.require(path, 1, required)?;
    header.refuse_repeated(path, wanted)?;
    let nanoseconds: Vec<bool> = fields.iter().map(|field| is_nanoseconds(field)).collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(bad)?;
    let mut lines = 0;
    for row in rows(step(|| reader.get_row_iter(Some(projection))).map_err(bad)?) {
        let row = row.map_err(bad)?;
        lines += 1;
        let texts = row.get_column_iter().zip(&nanoseconds).map(|((_, field), nanoseconds)| match field {
            Field::Long(since) if *nanoseconds => at(jiff::Timestamp::from_nanosecond(i128::from(*since))),
            field => text_of(field),
        });
        let texts: Vec<String> = texts.collect();
        let values: Vec<&str> = texts.iter().map(String::as_str).collect();
        each(&Line { path, number: lines, part: 0, header: &header, values: &values })?;
    }
    Ok(lines)
}

/// Timestamps of pandas and Spark: the library gives them as bare numbers.
fn is_nanoseconds(field: &Type) -> bool {
    matches!(field.get_basic_info().logical_type_ref(), Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS)
}

fn at(at: Result<jiff::Timestamp, jiff::Error>) -> String {
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// A value as CSV would have it; nothing is empty.
fn text_of(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        // Text of writers that do not say that it is text.
        Field::Bytes(bytes) => String::from_utf8_lossy(bytes.data()).into_owned(),
        Field::TimestampMillis(ms) => at(jiff::Timestamp::from_millisecond(*ms)),
        Field::TimestampMicros(micros) => at(jiff::Timestamp::from_microsecond(*micros)),
        Field::Double(figure) => figure.to_string(),
        Field::Float(figure) => figure.to_string(),
        Field::MapInternal(_) | Field::Group(_) | Field::ListInternal(_) => json_of(field).to_string(),
        other => other.to_string(),
    }
}

/// Maps, and the lists of keys and values that some write instead, as JSON.
fn json_of(field: &Field) -> serde_json::Value {
    match field {
        Field::MapInternal(map) => map.entries().iter().map(|(key, value)| (text_of(key), json_of(value))).collect(),
        Field::Group(row) => row.get_column_iter().map(|(name, value)| (name.clone(), json_of(value))).collect(),
        Field::ListInternal(list) => list.elements().iter().map(json_of).collect(),
        Field::Null => serde_json::Value::Null,
        value => text_of(value).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::path::PathBuf;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str, bytes: &[u8]) -> Self {
            let path = std::env::temp_dir().join(format!("lowtide-reading-{}-{name}", std::process::id()));
            std::fs::write(&path, bytes).unwrap();
            Scratch(path)
        }

        fn lines(&self) -> Result<Vec<String>, String> {
            let mut lines = Vec::new();
            let read = each_line(
                &self.0,
                &["a"],
                |_| true,
                |line| {
                    lines.push(line.values.join("|"));
                    Ok(())
                },
            );
            read.map(|read| assert_eq!(read.lines, u64::try_from(lines.len()).unwrap())).map_err(|fault| fault.to_string())?;
            Ok(lines)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    }

    fn zipped(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in files {
            archive.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    #[test]
    fn the_same_lines_are_read_from_every_wrapping() {
        let text = "a,b\n1,2\n3,4\n";
        let two_members = [gzip("a,b\n1,2\n"), gzip("3,4\n")].concat();
        for (name, bytes) in [
            ("plain", text.as_bytes().to_vec()),
            ("gz", gzip(text)),
            ("members.gz", two_members),
            ("zip", zipped(&[("x.csv", text)])),
            ("mac.zip", zipped(&[("x.csv", text), ("__MACOSX/._x.csv", "Mac OS X")])),
            ("twice", b"a,b\n1,2\na,b\n3,4\n".to_vec()),
            // As spreadsheets and databases save it: a mark, quoted names, carriage returns, empty rows at the end.
            ("mark", b"\xef\xbb\xbf\"a\",\"b\"\r\n\"1\",\"2\"\r\n3,4\r\n,\r\n\r\n".to_vec()),
            ("two-marks", b"\xef\xbb\xbfa,b\n1,2\n\xef\xbb\xbfa,b\n3,4\n".to_vec()),
        ] {
            assert_eq!(Scratch::new(name, &bytes).lines().unwrap(), ["1|2", "3|4"], "{name}");
        }
    }

    #[test]
    fn what_is_packed_is_known_by_what_it_says() {
        let text = "a,b\n1,2\n";
        let content = |name: &str, bytes: &[u8]| content_of(&Scratch::new(name, bytes).0).unwrap();
        let plain = content("says", text.as_bytes());
        for (name, bytes) in
            [("says.gz", gzip(text)), ("says.2.gz", [gzip("a,b\n"), gzip("1,2\n")].concat()), ("says.zip", zipped(&[("x", text)]))]
        {
            assert_eq!(content(name, &bytes), plain, "{name}");
        }
        assert_ne!(content("other", b"a,b\n1,3\n"), plain);
    }

    #[test]
    fn what_is_damaged_or_cut_is_refused() {
        let (first, second) = (gzip(&format!("a,b\n{}", "1,2\n".repeat(500))), gzip(&"3,4\n".repeat(500)));
        let both = [first.clone(), second.clone()].concat();
        let mut bad_second = both.clone();
        bad_second[first.len() + 12] ^= 0x55;
        let mut bad_header = both.clone();
        bad_header[first.len()] = 0;
        let mut bad_checksum = both.clone();
        *bad_checksum.last_mut().unwrap() ^= 1;
        let zip = zipped(&[("x.csv", "a,b\n1,2\n")]);
        for (name, bytes) in [
            ("cut.gz", both[..both.len() - 5].to_vec()),
            ("cut-in-first.gz", first[..first.len() / 2].to_vec()),
            ("second.gz", bad_second),
            ("header.gz", bad_header),
            ("checksum.gz", bad_checksum),
            ("cut.zip", zip[..zip.len() - 10].to_vec()),
            ("cut.csv", b"a,b\n1,2\n3".to_vec()),
            ("cut-in-quotes.csv", b"a,b\n1,2\n3,\"4 and".to_vec()),
            ("cut-in-last-quotes.csv", b"a,b\n1,2\n3,\"4 and\n".to_vec()),
            ("cut-in-header.csv", b"a,\"b\n".to_vec()),
            ("cut-in-quotes.csv.gz", gzip("a,b\n1,2\n3,\"4")),
            ("two.zip", zipped(&[("x.csv", "a\n"), ("y.csv", "a\n")])),
            ("other-header.csv", b"a,b\n1,2\nb,a\n3,4\n".to_vec()),
            ("empty.csv", Vec::new()),
            ("not-text.csv", b"a,b\n\xff\xfe,1\n".to_vec()),
            ("parquet", b"PAR1 and nothing".to_vec()),
            ("garbage.gz", [both.clone(), b"trailing".to_vec()].concat()),
            ("nameless.csv", b"a,b,\n1,2,3\n".to_vec()),
        ] {
            let fault = Scratch::new(name, &bytes).lines().unwrap_err();
            assert!(fault.ends_with("nothing was imported"), "{name}: {fault}");
        }
    }

    #[test]
    fn what_unpacks_to_more_than_a_line_may_have_is_refused_and_not_kept() {
        let long = "1".repeat(4 << 20);
        for (name, bytes) in [
            ("bomb.gz", gzip(&format!("a,b\n1,2\n{long}"))),
            ("bomb-in-quotes.gz", gzip(&format!("a,b\n1,2\n3,\"{}", "\n".repeat(MOST_LINE + BUFFER)))),
            ("bomb-of-a-header.zip", zipped(&[("x.csv", &long)])),
        ] {
            assert!(bytes.len() < 1 << 14, "{name} is small: {} bytes", bytes.len());
            let fault = Scratch::new(name, &bytes).lines().unwrap_err();
            assert!(fault.contains("a line of more than 1048576 bytes; expected lines of some KB"), "{name}: {fault}");
        }
        // Long lines that there may be, as many as there are.
        let wide = format!("a,b\n{}", format!("1,{}\n", "2".repeat(MOST_LINE / 2)).repeat(9));
        assert_eq!(Scratch::new("wide.csv.gz", &gzip(&wide)).lines().unwrap().len(), 9);
    }

    #[test]
    fn a_fault_names_its_line_whatever_ends_lines() {
        for (name, end) in [("unix.csv", "\n"), ("windows.csv", "\r\n")] {
            let file = Scratch::new(name, ["a,b", "1,2", "\"3", "4\",5", "6"].join(end).as_bytes());
            let fault = file.lines().unwrap_err();
            assert!(fault.contains(", line 5: 1 values for 2 columns"), "{fault}");
        }
    }

    #[test]
    fn what_a_spreadsheet_made_of_a_file_is_named() {
        let utf16 = [0xff, 0xfe].into_iter().chain("a,b\n1,2\n".encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>();
        for (name, bytes, said) in [
            ("semicolons.csv", b"a;b\n1;2,5\n".to_vec(), "separated by semicolons; expected commas, points in amounts"),
            ("marked.csv", b"\xef\xbb\xbfa;b\r\n1;2,5\r\n".to_vec(), "separated by semicolons"),
            ("separator.csv", b"sep=;\na;b\n1;2\n".to_vec(), "separated by semicolons"),
            ("tabs.csv", b"a\tb\n1\t2\n".to_vec(), "separated by tabs"),
            ("utf16.csv", utf16, "the text is UTF-16; expected UTF-8"),
            ("column-twice.csv", b"a,b,A\n1,2,3\n".to_vec(), "the column a is there twice"),
        ] {
            let fault = Scratch::new(name, &bytes).lines().unwrap_err();
            assert!(fault.contains(said), "{name}: {fault}");
        }
        // A quote in the middle of a value opens nothing.
        assert_eq!(Scratch::new("inch.csv", b"a,b\n1,a 5\" disk\n2,\"x\"").lines().unwrap(), ["1|a 5\" disk", "2|x"]);
        // Columns without a name and without a value are what a spreadsheet leaves.
        assert_eq!(Scratch::new("empty-columns.csv", b"a,b,,\n1,2,,\n,,,\n").lines().unwrap(), ["1|2||"]);
    }

    /// One row of each kind of value, written by the library itself.
    fn parquet(packing: Compression) -> Vec<u8> {
        use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int32Type, Int64Type};
        let schema = "message m { required binary a; required binary text (STRING); required int64 nanos (TIMESTAMP(NANOS,true));
            required int64 micros (TIMESTAMP(MICROS,true)); required int32 day (DATE); required int64 small (DECIMAL(18,10));
            required fixed_len_byte_array(16) wide (DECIMAL(38,10)); required double tiny; optional binary nothing (STRING);
            required group tags (MAP) { repeated group key_value { required binary key (STRING); optional binary value (STRING); } } }";
        let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
        let properties =
            parquet::file::properties::WriterProperties::builder().set_compression(packing).set_dictionary_enabled(true).build();
        let mut writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), schema, std::sync::Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let text = |text: &str| ByteArray::from(text.as_bytes().to_vec());
        for at in 0.. {
            let Some(mut column) = group.next_column().unwrap() else { break };
            let (defined, repeated) = (Some(&[1_i16][..]), Some(&[0_i16][..]));
            match at {
                0 => column.typed::<ByteArrayType>().write_batch(&[text("bare")], None, None),
                1 => column.typed::<ByteArrayType>().write_batch(&[text("said")], None, None),
                2 => column.typed::<Int64Type>().write_batch(&[1_784_505_600_000_000_000], None, None),
                3 => column.typed::<Int64Type>().write_batch(&[1_784_505_600_000_000], None, None),
                4 => column.typed::<Int32Type>().write_batch(&[20_654], None, None),
                5 => column.typed::<Int64Type>().write_batch(&[-913_000_000], None, None),
                6 => {
                    let wide = FixedLenByteArray::from((-12_500_000_000_i128).to_be_bytes().to_vec());
                    column.typed::<FixedLenByteArrayType>().write_batch(&[wide], None, None)
                }
                7 => column.typed::<DoubleType>().write_batch(&[1.234_567_890_123_456_7e-8], None, None),
                8 => column.typed::<ByteArrayType>().write_batch(&[], Some(&[0]), None),
                9 => column.typed::<ByteArrayType>().write_batch(&[text("user_team")], defined, repeated),
                _ => column.typed::<ByteArrayType>().write_batch(&[text("search")], Some(&[2]), repeated),
            }
            .unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    #[test]
    fn a_page_that_the_library_does_not_survive_is_damage() {
        let whole = parquet(Compression::UNCOMPRESSED);
        let damaged = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] = 0xff;
            bytes
        };
        let count = |file: File| {
            SerializedFileReader::new(file).and_then(|reader| reader.get_row_iter(None)?.take_while(Result::is_ok).last().transpose())
        };
        let panics = |bytes: &Vec<u8>| {
            let file = crate::mutation::read_file(bytes, |path| File::open(path).unwrap());
            std::panic::catch_unwind(|| count(file).is_ok()).is_err()
        };
        let Some(bytes) = (4..whole.len()).map(damaged).find(panics) else {
            panic!("the library survives whatever byte is damaged: parquet_rows is needed no longer");
        };
        let fault = Scratch::new("panics.parquet", &bytes).lines().unwrap_err();
        assert!(fault.contains("no page of Parquet") && fault.contains("damaged or was cut off"), "{fault}");
    }

    #[test]
    fn parquet_is_read_in_every_type_and_packing_that_writers_use() {
        for packing in [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(parquet::basic::GzipLevel::default())] {
            assert_eq!(
                Scratch::new(&format!("{packing}.parquet"), &parquet(packing)).lines().unwrap(),
                [
                    r#"bare|said|2026-07-20T00:00:00Z|2026-07-20T00:00:00Z|2026-07-20|-0.0913000000|-1.2500000000|0.000000012345678901234567||{"user_team":"search"}"#
                ],
                "{packing}"
            );
        }
    }

    fn packed() -> Vec<Vec<u8>> {
        let text = "a,b\n1,2\n3,\"4\n5\"\n";
        let gzip_packing = Compression::GZIP(parquet::basic::GzipLevel::default());
        vec![
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.replace('\n', "\r\n").as_bytes()].concat(),
            gzip(text),
            [gzip("a,b\n1,2\n"), gzip("3,4\n")].concat(),
            zipped(&[("x.csv", text), ("__MACOSX/._x.csv", "Mac OS X")]),
            parquet(Compression::UNCOMPRESSED),
            parquet(Compression::SNAPPY),
            parquet(gzip_packing),
        ]
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2 * crate::mutation::CASES))]

        #[test]
        fn whatever_a_file_is_packed_in_is_read_to_its_end_or_refused_with_a_sentence(bytes in crate::mutation::bytes(packed())) {
            let (read, content) = crate::mutation::read_file(&bytes, |path| {
                let mut widths = std::collections::BTreeSet::new();
                let read = each_line(path, &["a"], |_| true, |line| {
                    widths.insert(line.values.len());
                    Ok(())
                });
                (read.map(|read| (read.lines, widths)), content_of(path))
            });
            match read {
                // What the container says of its content holds, or it is no container.
                Ok((lines, widths)) => {
                    assert!(content.is_ok() && widths.len() <= 1 && (lines > 0) == (widths.len() == 1), "{lines} lines of {widths:?}, {content:?}");
                }
                Err(fault) => assert!(fault.to_string().ends_with("nothing was imported"), "{fault}"),
            }
        }
    }
}
