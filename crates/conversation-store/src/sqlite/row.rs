//! Reading columns.

use rusqlite::Row;

/// Reads a column of text by its position, without a copy.
pub(super) fn text<'a>(row: &'a Row<'_>, position: usize) -> rusqlite::Result<&'a str> {
    Ok(row.get_ref(position)?.as_str()?)
}
