//! Files as they come, line by line: CSV, plain or in gzip or zip, and Parquet.
//!
//! Decides: what a file is (by its first bytes, not its name), that it is read once, in bounded memory and to its end, and that a damaged or cut one
//! is refused: every member of a gzip file, every entry of a zip file.
//! Does not: know what the columns mean.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek};
use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use parquet::schema::types::Type;
use sha2::{Digest, Sha256};

use super::ImportFault;
use super::table::{Header, Line};
use crate::ledger::seal::hex;

/// What one `read` asks for.
const BUFFER: usize = 1 << 18;

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
    let files: Vec<usize> = (0..archive.len()).filter(|n| archive.by_index_raw(*n).is_ok_and(|entry| entry.is_file())).collect();
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

/// A fault of reading bytes while text was expected.
pub(super) fn while_reading(path: &Path, line: u64, cause: &std::io::Error) -> ImportFault {
    match cause.kind() {
        std::io::ErrorKind::InvalidData if cause.to_string().contains("UTF-8") => malformed(path, line, "not UTF-8 text".into()),
        _ => damaged(path, cause),
    }
}

/// Reads a file with a header; `each` gets every line. Of Parquet only the columns `wanted` says yes to are read.
///
/// A header that comes again in the middle is passed over: files are put together by `cat`. One with other columns is refused.
pub(super) fn each_line(
    path: &Path,
    required: &[&str],
    wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<ReadFile, ImportFault> {
    let lines = match wrapping(path)? {
        Wrapping::Parquet => each_parquet_row(path, required, wanted, &mut each)?,
        _ => with_text(path, |text| each_csv_record(path, text, required, &mut each))?,
    };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(ReadFile { name, sha256: sha256_of(path)?, lines })
}

/// Reads CSV with a header; gives how many lines there were.
pub(super) fn each_csv_record(
    path: &Path,
    text: &mut dyn BufRead,
    required: &[&str],
    each: &mut dyn FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<u64, ImportFault> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text);
    let fault = |line: u64, fault: csv::Error| match fault.kind() {
        csv::ErrorKind::Io(cause) => while_reading(path, line, cause),
        csv::ErrorKind::Utf8 { pos, .. } => malformed(path, pos.as_ref().map_or(line, csv::Position::line), "not UTF-8 text".into()),
        _ => malformed(path, line, fault.to_string()),
    };
    let names = reader.headers().map_err(|cause| fault(1, cause))?.clone();
    if names.is_empty() {
        return Err(malformed(path, 1, "the file is empty; expected a header".into()));
    }
    let header = Header::new(names.iter());
    header.require(path, 1, required)?;
    let mut record = csv::StringRecord::new();
    let mut lines = 0;
    loop {
        let at = reader.position().line();
        if !reader.read_record(&mut record).map_err(|cause| fault(at, cause))? {
            return Ok(lines);
        }
        if record == names {
            continue;
        }
        let values: Vec<&str> = record.iter().collect();
        let number = record.position().map_or(0, csv::Position::line);
        if values.iter().filter(|value| header.has(&super::table::column_name(value))).count() > values.len() / 2 {
            return Err(malformed(path, number, "a second header with other columns: these are two files in one; give them apart".into()));
        }
        if values.len() != names.len() {
            let fault = format!("{} values for {} columns: the line is damaged or the file was cut", values.len(), names.len());
            return Err(malformed(path, number, fault));
        }
        lines += 1;
        each(&Line { path, number, header: &header, values: &values })?;
    }
}

fn each_parquet_row(
    path: &Path,
    required: &[&str],
    wanted: impl Fn(&str) -> bool,
    each: &mut dyn FnMut(&Line) -> Result<(), ImportFault>,
) -> Result<u64, ImportFault> {
    let bad = |cause: parquet::errors::ParquetError| ImportFault::Damaged { path: path.to_path_buf(), cause: cause.to_string() };
    let reader = SerializedFileReader::new(File::open(path).map_err(unreadable(path))?).map_err(bad)?;
    let schema = reader.metadata().file_metadata().schema_descr().root_schema_ptr();
    let fields: Vec<_> = schema.get_fields().iter().filter(|field| wanted(&super::table::column_name(field.name()))).cloned().collect();
    let names: Vec<String> = fields.iter().map(|field| field.name().to_owned()).collect();
    let header = Header::new(names.iter().map(String::as_str));
    header.require(path, 1, required)?;
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build().map_err(bad)?;
    let mut lines = 0;
    for row in reader.get_row_iter(Some(projection)).map_err(bad)? {
        let row = row.map_err(bad)?;
        lines += 1;
        let texts: Vec<String> = row.get_column_iter().map(|(_, field)| text_of(field)).collect();
        let values: Vec<&str> = texts.iter().map(String::as_str).collect();
        each(&Line { path, number: lines, header: &header, values: &values })?;
    }
    Ok(lines)
}

/// A value as CSV would have it; nothing is empty.
fn text_of(field: &Field) -> String {
    let at = |at: Result<jiff::Timestamp, jiff::Error>| at.map(|at| at.to_string()).unwrap_or_default();
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::TimestampMillis(ms) => at(jiff::Timestamp::from_millisecond(*ms)),
        Field::TimestampMicros(micros) => at(jiff::Timestamp::from_microsecond(*micros)),
        Field::Double(figure) => figure.to_string(),
        Field::Float(figure) => figure.to_string(),
        Field::MapInternal(map) => {
            let pairs: serde_json::Map<String, serde_json::Value> =
                map.entries().iter().map(|(key, value)| (text_of(key), text_of(value).into())).collect();
            serde_json::Value::Object(pairs).to_string()
        }
        other => other.to_string(),
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
            ("twice", b"a,b\n1,2\na,b\n3,4\n".to_vec()),
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
            ("two.zip", zipped(&[("x.csv", "a\n"), ("y.csv", "a\n")])),
            ("other-header.csv", b"a,b\n1,2\nb,a\n3,4\n".to_vec()),
            ("empty.csv", Vec::new()),
            ("not-text.csv", b"a,b\n\xff\xfe,1\n".to_vec()),
            ("parquet", b"PAR1 and nothing".to_vec()),
        ] {
            let fault = Scratch::new(name, &bytes).lines().unwrap_err();
            assert!(fault.ends_with("nothing was taken"), "{name}: {fault}");
        }
    }
}
