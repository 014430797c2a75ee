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
    Ok(ReadFile { name: name_of(path), sha256: sha256_of(path)?, lines })
}

/// A file's name without its folders.
pub(super) fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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
mod tests;
