//! Results on stdout: one JSON document, or text for people. Words that are no result go to stderr.

use std::io::{self, Write};

use serde::Serialize;

/// How a command says its result.
#[derive(Clone, Copy)]
pub(super) struct Output {
    /// One JSON document rather than text.
    pub(super) json: bool,
}

impl Output {
    /// Writes the command's one result; `text` says it to people.
    pub(super) fn result<T: Serialize + ?Sized>(
        self,
        value: &T,
        text: impl FnOnce(&T) -> String,
    ) -> io::Result<()> {
        let mut document = if self.json { serde_json::to_string(value)? } else { text(value) };
        if !document.is_empty() && !document.ends_with('\n') {
            document.push('\n');
        }
        print(&document)
    }

    /// Adds a word for the person at the terminal; scripts are spared.
    pub(super) fn note(self, text: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { writeln!(io::stderr(), "{text}") }
    }
}

/// Writes a part of a result that comes piece by piece.
pub(super) fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Lines of equally wide columns.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let body = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(head)).chain(body).collect()
}

/// One labelled value a line.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    fields.iter().map(|(label, value)| format!("{label:width$}  {value}\n")).collect()
}

/// A cell after RFC 4180. What a spreadsheet would take for a formula gets an apostrophe.
pub(super) fn csv(cell: &str) -> String {
    let formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let cell = if formula { format!("'{cell}") } else { cell.to_owned() };
    if cell.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ä", "x"].map(String::from), ["bcdef", "y"].map(String::from)];
        assert_eq!(table(["ID", "NAME"], &rows), "ID     NAME\nä      x\nbcdef  y\n");
    }

    #[test]
    fn a_cell_is_quoted_where_it_must_be_and_never_a_formula() {
        for (cell, want) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-2", "'-2"),
        ] {
            assert_eq!(csv(cell), want);
        }
    }

    #[test]
    fn labels_are_aligned() {
        assert_eq!(fields(&[("id", "1".into()), ("team", "lab".into())]), "id    1\nteam  lab\n");
    }
}
