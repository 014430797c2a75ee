//! Files in every wrapping, whole, damaged, and changed at random.

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
    let properties = parquet::file::properties::WriterProperties::builder().set_compression(packing).set_dictionary_enabled(true).build();
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
    let texts = [
        text.as_bytes().to_vec(),
        [b"\xef\xbb\xbf", text.replace('\n', "\r\n").as_bytes()].concat(),
        gzip(text),
        [gzip("a,b\n1,2\n"), gzip("3,4\n")].concat(),
        zipped(&[("x.csv", text), ("__MACOSX/._x.csv", "Mac OS X")]),
    ];
    let packings = [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::GZIP(parquet::basic::GzipLevel::default())];
    // Parquet has the most that can be wrong.
    texts.into_iter().chain(packings.map(parquet).into_iter().cycle().take(12)).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3 * crate::mutation::CASES))]

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
