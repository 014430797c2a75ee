//! Parquet files of whoever wrote them, through the library that reads them.
//!
//! Decides: that what the library does not survive is a damaged file like any other: it panics where a page is not what its header says, and a damaged
//! bill must not take the operator's hourly fetch with it.
//! Does not: know what columns mean (see [`super::import`] and [`super::table_file`]).

use std::panic::{AssertUnwindSafe, catch_unwind};

use parquet::errors::ParquetError;

/// One step of the library's. After a fault nothing of it is used again.
pub(super) fn step<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Err(ParquetError::General(format!("no page of Parquet: {}", said.unwrap_or("the library gave up"))))
    })
}

/// The rows of a file, to its first fault.
pub(super) fn rows<R>(mut rows: impl Iterator<Item = Result<R, ParquetError>>) -> impl Iterator<Item = Result<R, ParquetError>> {
    let mut over = false;
    std::iter::from_fn(move || {
        if over {
            return None;
        }
        let row = step(|| rows.next().transpose()).transpose();
        over = !matches!(row, Some(Ok(_)));
        row
    })
}
