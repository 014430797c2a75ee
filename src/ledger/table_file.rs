//! Tables as files that outlive the database: CSV and Parquet, written and read as text with exact values.
//!
//! Decides: how a value is kept in each format (Parquet: text as UTF-8, amounts as decimals, times in microseconds; nothing as a float).
//! Does not: know what the columns mean.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, FixedLenByteArray, FixedLenByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::record::Field;
use parquet::schema::parser::parse_message_type;

use super::parquet_rows::{rows, step};

/// Decimals of amounts in Parquet: a price and a quantity of ten decimals each have an exact product.
const SCALE: usize = 20;
/// Rows that are held at once, and make a row group.
const ROWS_AT_ONCE: usize = 20_000;

/// A file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct TableFileFault {
    /// Which.
    pub path: PathBuf,
    /// What happened.
    pub fault: String,
}

/// How a table is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// Text, a header first; an unknown value is empty.
    #[default]
    Csv,
    /// Columns, compressed (snappy).
    Parquet,
}

impl Format {
    /// The end of file names.
    pub fn extension(self) -> &'static str {
        match self {
            Format::Csv => "csv",
            Format::Parquet => "parquet",
        }
    }

    /// The format of a file, by its first bytes.
    ///
    /// # Errors
    /// [`TableFileFault`] when it cannot be opened.
    pub fn of(path: &Path) -> Result<Format, TableFileFault> {
        use std::io::Read;
        let mut magic = [0; 4];
        let fault = |fault: std::io::Error| TableFileFault { path: path.to_path_buf(), fault: fault.to_string() };
        let length = File::open(path).map_err(fault)?.read(&mut magic).map_err(fault)?;
        Ok(if length == 4 && &magic == b"PAR1" { Format::Parquet } else { Format::Csv })
    }
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Any text.
    Text,
    /// A decimal of at most 18 digits before and 20 after the point.
    Decimal,
    /// A point in time, RFC 3339 in UTC.
    Time,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: Kind,
}

enum Writing {
    Csv(Box<csv::Writer<File>>),
    Parquet(Box<SerializedFileWriter<File>>),
}

/// Writes a table row by row.
pub struct TableWriter {
    path: PathBuf,
    columns: Vec<Column>,
    writing: Writing,
    held: Vec<Vec<Option<String>>>,
}

impl TableWriter {
    /// A new file; one that is there is refused.
    ///
    /// # Errors
    /// [`TableFileFault`].
    pub fn create(path: &Path, columns: Vec<Column>, format: Format) -> Result<Self, TableFileFault> {
        let fault = |fault: String| TableFileFault { path: path.to_path_buf(), fault };
        let file = File::create_new(path).map_err(|cause| fault(cause.to_string()))?;
        let writing = match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(file);
                writer.write_record(columns.iter().map(|column| &column.name)).map_err(|cause| fault(cause.to_string()))?;
                Writing::Csv(Box::new(writer))
            }
            Format::Parquet => {
                let schema = parse_message_type(&schema_of(&columns)).map_err(|cause| fault(cause.to_string()))?;
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).set_created_by("lowtide".into()).build();
                let writer =
                    SerializedFileWriter::new(file, Arc::new(schema), Arc::new(properties)).map_err(|cause| fault(cause.to_string()))?;
                Writing::Parquet(Box::new(writer))
            }
        };
        Ok(TableWriter { path: path.to_path_buf(), columns, writing, held: Vec::new() })
    }

    /// Adds a row of as many values as there are columns.
    ///
    /// # Errors
    /// [`TableFileFault`].
    pub fn add(&mut self, row: Vec<Option<String>>) -> Result<(), TableFileFault> {
        match &mut self.writing {
            Writing::Csv(writer) => {
                let written = writer.write_record(row.iter().map(|value| value.as_deref().unwrap_or("")));
                written.map_err(|cause| TableFileFault { path: self.path.clone(), fault: cause.to_string() })
            }
            Writing::Parquet(_) => {
                self.held.push(row);
                if self.held.len() >= ROWS_AT_ONCE { self.flush() } else { Ok(()) }
            }
        }
    }

    fn flush(&mut self) -> Result<(), TableFileFault> {
        let rows = std::mem::take(&mut self.held);
        if let (Writing::Parquet(writer), false) = (&mut self.writing, rows.is_empty()) {
            write_group(writer, &self.columns, &rows).map_err(|fault| TableFileFault { path: self.path.clone(), fault })?;
        }
        Ok(())
    }

    /// Ends the file and makes it lasting.
    ///
    /// # Errors
    /// [`TableFileFault`].
    pub fn finish(mut self) -> Result<(), TableFileFault> {
        self.flush()?;
        let path = self.path.clone();
        let fault = |fault: String| TableFileFault { path: path.clone(), fault };
        let file = match self.writing {
            Writing::Csv(writer) => writer.into_inner().map_err(|cause| fault(cause.to_string()))?,
            Writing::Parquet(writer) => writer.into_inner().map_err(|cause| fault(cause.to_string()))?,
        };
        file.sync_all().map_err(|cause| fault(cause.to_string()))
    }
}

fn schema_of(columns: &[Column]) -> String {
    let line = |column: &Column| match column.kind {
        Kind::Text => format!("OPTIONAL BYTE_ARRAY {} (UTF8);", column.name),
        Kind::Decimal => format!("OPTIONAL FIXED_LEN_BYTE_ARRAY (16) {} (DECIMAL (38, {SCALE}));", column.name),
        Kind::Time => format!("OPTIONAL INT64 {} (TIMESTAMP (MICROS, true));", column.name),
    };
    format!("message lowtide {{ {} }}", columns.iter().map(line).collect::<String>())
}

fn write_group(writer: &mut SerializedFileWriter<File>, columns: &[Column], rows: &[Vec<Option<String>>]) -> Result<(), String> {
    let mut group = writer.next_row_group().map_err(|fault| fault.to_string())?;
    for (at, column) in columns.iter().enumerate() {
        let Some(mut into) = group.next_column().map_err(|fault| fault.to_string())? else { break };
        let values: Vec<Option<&str>> = rows.iter().map(|row| row.get(at).and_then(Option::as_deref)).collect();
        write_column(&mut into, column, &values)?;
        into.close().map_err(|fault| fault.to_string())?;
    }
    group.close().map(|_| ()).map_err(|fault| fault.to_string())
}

fn write_column(into: &mut SerializedColumnWriter, column: &Column, values: &[Option<&str>]) -> Result<(), String> {
    let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
    let bad = |value: &str, expected: &str| format!("column {} holds {value:?}; expected {expected}", column.name);
    let there = values.iter().flatten();
    let written = match column.kind {
        Kind::Text => {
            let values: Vec<ByteArray> = there.map(|value| ByteArray::from(*value)).collect();
            into.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)
        }
        Kind::Decimal => {
            let scaled = there.map(|value| scaled(value).ok_or_else(|| bad(value, "a number with at most 20 decimals")));
            let values: Vec<FixedLenByteArray> = scaled
                .map(|figure| figure.map(|figure| FixedLenByteArray::from(figure.to_be_bytes().to_vec())))
                .collect::<Result<_, String>>()?;
            into.typed::<FixedLenByteArrayType>().write_batch(&values, Some(&levels), None)
        }
        Kind::Time => {
            let micros = there.map(|value| {
                value
                    .parse::<jiff::Timestamp>()
                    .map(|at| at.as_microsecond())
                    .map_err(|_| bad(value, "a point in time as 2026-07-20T07:00:00Z"))
            });
            let values: Vec<i64> = micros.collect::<Result<_, String>>()?;
            into.typed::<Int64Type>().write_batch(&values, Some(&levels), None)
        }
    };
    written.map(|_| ()).map_err(|fault| fault.to_string())
}

/// A decimal as a whole number of 10^-20.
fn scaled(text: &str) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let readable =
        !whole.is_empty() && whole.len() <= 18 && part.len() <= SCALE && whole.bytes().chain(part.bytes()).all(|b| b.is_ascii_digit());
    let figure: i128 = readable.then(|| format!("{whole}{part:0<SCALE$}").parse().ok()).flatten()?;
    Some(if negative { -figure } else { figure })
}

/// A whole number of 10^-20 as a decimal without trailing zeros.
fn unscaled(figure: i128) -> String {
    let sign = if figure < 0 { "-" } else { "" };
    let one = 10_u128.pow(20);
    let digits = format!("{:020}", figure.unsigned_abs() % one);
    let part = digits.trim_end_matches('0');
    let point = if part.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{part}", figure.unsigned_abs() / one)
}

/// Reads a file; `each` gets the number of the row (1 is the first) and its values. Gives the columns' names.
///
/// # Errors
/// [`TableFileFault`] of reading, and whatever `each` gives.
pub fn read_table<E: From<TableFileFault>>(
    path: &Path,
    mut each: impl FnMut(&[String], u64, &[Option<String>]) -> Result<(), E>,
) -> Result<Vec<String>, E> {
    let fault = |fault: String| TableFileFault { path: path.to_path_buf(), fault };
    match Format::of(path)? {
        Format::Csv => {
            let mut reader = csv::Reader::from_path(path).map_err(|cause| fault(cause.to_string()))?;
            let names: Vec<String> = reader.headers().map_err(|cause| fault(cause.to_string()))?.iter().map(String::from).collect();
            for (number, record) in (1..).zip(reader.records()) {
                let record = record.map_err(|cause| fault(cause.to_string()))?;
                let values: Vec<Option<String>> = record.iter().map(|value| (!value.is_empty()).then(|| value.to_owned())).collect();
                each(&names, number, &values)?;
            }
            Ok(names)
        }
        Format::Parquet => {
            let file = File::open(path).map_err(|cause| fault(cause.to_string()))?;
            let reader = step(|| SerializedFileReader::new(file)).map_err(|cause| fault(cause.to_string()))?;
            let schema = reader.metadata().file_metadata().schema_descr();
            let names: Vec<String> = (0..schema.num_columns()).map(|n| schema.column(n).name().to_owned()).collect();
            for (number, row) in (1..).zip(rows(step(|| reader.get_row_iter(None)).map_err(|cause| fault(cause.to_string()))?)) {
                let row = row.map_err(|cause| fault(cause.to_string()))?;
                let values: Vec<Option<String>> = row.get_column_iter().map(|(_, field)| text_of(field)).collect();
                each(&names, number, &values)?;
            }
            Ok(names)
        }
    }
}

fn text_of(field: &Field) -> Option<String> {
    match field {
        Field::Null => None,
        Field::Str(text) => Some(text.clone()),
        Field::Decimal(decimal) if decimal.scale() == 20 => {
            let bytes: [u8; 16] = decimal.data().try_into().ok()?;
            Some(unscaled(i128::from_be_bytes(bytes)))
        }
        Field::TimestampMicros(micros) => jiff::Timestamp::from_microsecond(*micros).ok().map(|at| at.to_string()),
        other => Some(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column { name: name.into(), kind }
    }

    #[test]
    fn what_is_written_is_read_to_the_last_digit() {
        let columns = || vec![column("name", Kind::Text), column("usd", Kind::Decimal), column("at", Kind::Time)];
        let some = |text: &str| Some(text.to_owned());
        let mut rows = vec![
            vec![some("a, \"b\"\nc"), some("-0.00000000000000000001"), some("2026-07-20T07:13:47.123456Z")],
            vec![some("ü"), some("123456789012345678.5"), some("1970-01-01T00:00:00Z")],
            vec![None, None, None],
        ];
        rows.extend((0..45_000).map(|n| vec![Some(format!("row {n}")), Some(n.to_string()), None]));
        for format in [Format::Csv, Format::Parquet] {
            let path = std::env::temp_dir().join(format!("lowtide-table-{}.{}", std::process::id(), format.extension()));
            let _ = std::fs::remove_file(&path);
            let mut writer = TableWriter::create(&path, columns(), format).unwrap();
            for row in &rows {
                writer.add(row.clone()).unwrap();
            }
            writer.finish().unwrap();
            assert!(TableWriter::create(&path, columns(), format).is_err(), "an existing file is not overwritten");
            let mut found = Vec::new();
            let names = read_table::<TableFileFault>(&path, |_, number, values| {
                assert_eq!(number, u64::try_from(found.len()).unwrap() + 1);
                found.push(values.to_vec());
                Ok(())
            });
            std::fs::remove_file(&path).unwrap();
            assert_eq!(names.unwrap(), ["name", "usd", "at"]);
            assert_eq!(found, rows, "{format:?}");
        }
    }

    #[test]
    fn a_value_that_is_no_decimal_is_refused_with_its_column() {
        let path = std::env::temp_dir().join(format!("lowtide-table-bad-{}.parquet", std::process::id()));
        let mut writer = TableWriter::create(&path, vec![column("usd", Kind::Decimal)], Format::Parquet).unwrap();
        writer.add(vec![Some("1e3".into())]).unwrap();
        let fault = writer.finish().unwrap_err().to_string();
        std::fs::remove_file(&path).unwrap();
        assert!(fault.contains("column usd holds \"1e3\""), "{fault}");
    }

    /// A file of one row of each kind of column, in both formats.
    fn written() -> Vec<Vec<u8>> {
        let row = ["a, \"b\"\nc", "-0.00000000000000000001", "2026-07-20T07:13:47.123456Z"];
        [Format::Csv, Format::Parquet]
            .map(|format| {
                let path = std::env::temp_dir().join(format!("lowtide-written-{}.{}", std::process::id(), format.extension()));
                let _ = std::fs::remove_file(&path);
                let columns = vec![column("name", Kind::Text), column("usd", Kind::Decimal), column("at", Kind::Time)];
                let mut writer = TableWriter::create(&path, columns, format).unwrap();
                writer.add(row.iter().map(|value| Some((*value).to_owned())).collect()).unwrap();
                writer.add(vec![None, None, None]).unwrap();
                writer.finish().unwrap();
                let bytes = std::fs::read(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                bytes
            })
            .to_vec()
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(4 * crate::mutation::CASES))]

        #[test]
        fn whatever_became_of_an_archived_table_is_read_row_by_row_or_a_fault(bytes in crate::mutation::bytes(written())) {
            let mut rows = 0;
            let read = crate::mutation::read_file(&bytes, |path| {
                read_table::<TableFileFault>(path, |names, number, values| {
                    rows += 1;
                    assert!(number == rows && names.len() == values.len());
                    Ok(())
                })
            });
            if let Err(fault) = read {
                assert!(fault.to_string().len() > 20, "{fault}");
            }
        }
    }
}
