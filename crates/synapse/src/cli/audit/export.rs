//! `synapse audit list` and `synapse audit export`: entries as people, programs and spreadsheets read them.

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use synapse_core::{
    audit::entry::{Column, Entry, Sealed, Value},
    hex,
    store::audit::{AuditFilter, AuditStore},
};

use super::{
    super::{
        output::{Output, csv, table},
        time::relative,
    },
    PAGE, print,
};

/// How an export is written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Format {
    /// One JSON document a line
    Jsonl,
    /// One entry a line, with a header
    Csv,
}

/// Prints the newest entries.
pub(super) async fn list(
    store: &dyn AuditStore,
    filter: &AuditFilter,
    limit: u32,
    output: Output,
) -> anyhow::Result<()> {
    let entries = store.list_entries(filter, limit).await?;
    if entries.is_empty() {
        output.note("There is no such entry.")?;
    }
    let documents: Vec<Json> = entries.iter().map(document).collect();
    let now = Timestamp::now();
    Ok(output.result(&documents, |_| match entries.as_slice() {
        [] => String::new(),
        entries => {
            let head = ["SEQ", "WHEN", "KIND", "TEAM", "KEY", "MODEL", "OUTCOME", "STATUS", "REQUEST"];
            table(head, &entries.iter().map(|sealed| row(sealed, now)).collect::<Vec<_>>())
        }
    })?)
}

fn row(sealed: &Sealed, now: Timestamp) -> [String; 9] {
    let entry = &sealed.entry;
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    [
        sealed.seq.to_string(),
        relative(entry.at, now),
        entry.kind.name().to_owned(),
        text(&entry.team),
        text(&entry.key),
        text(&entry.model_asked),
        text(&entry.outcome),
        entry.status.map(|status| status.to_string()).unwrap_or_default(),
        text(&entry.request),
    ]
}

/// Writes all entries that fit, page by page.
pub(super) async fn all(
    store: &dyn AuditStore,
    mut filter: AuditFilter,
    format: Format,
) -> anyhow::Result<()> {
    if matches!(format, Format::Csv) {
        let names: Vec<&str> = Entry::COLUMNS.iter().map(|column| column.name).collect();
        print(&format!("chain,seq,prev,hash,{}\n", names.join(",")))?;
    }
    loop {
        let page = store.list_entries(&filter, PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        filter.before = Some((last.entry.at, last.entry.id));
        let line = |sealed: &Sealed| match format {
            Format::Jsonl => format!("{}\n", document(sealed)),
            Format::Csv => cells(sealed),
        };
        print(&page.iter().map(line).collect::<String>())?;
    }
}

/// An entry as a JSON document: what is empty is left out.
pub(super) fn document(sealed: &Sealed) -> Json {
    let mut fields = Map::new();
    fields.insert("chain".into(), sealed.chain.to_string().into());
    fields.insert("seq".into(), sealed.seq.into());
    fields.insert("prev".into(), hex(&sealed.prev).into());
    fields.insert("hash".into(), hex(&sealed.hash).into());
    for (column, value) in Entry::COLUMNS.iter().zip(sealed.entry.values()) {
        let value = match value {
            Value::Null => continue,
            Value::Integer(number) if column.name != "at" => number.into(),
            value => text(column, value, &sealed.entry).into(),
        };
        fields.insert(column.name.into(), value);
    }
    fields.into()
}

fn cells(sealed: &Sealed) -> String {
    let place =
        [sealed.chain.to_string(), sealed.seq.to_string(), hex(&sealed.prev), hex(&sealed.hash)].into_iter();
    let values = Entry::COLUMNS.iter().zip(sealed.entry.values());
    let values = values.map(|(column, value)| match value {
        // A number is no formula.
        Value::Integer(number) if column.name != "at" => number.to_string(),
        value => csv(&text(column, value, &sealed.entry)),
    });
    place.chain(values).collect::<Vec<_>>().join(",") + "\n"
}

fn text(column: &Column, value: Value<'_>, entry: &Entry) -> String {
    match (column.name, value) {
        ("id", _) => entry.id.to_string(),
        ("at", _) => entry.at.to_string(),
        (_, Value::Null) => String::new(),
        (_, Value::Integer(number)) => number.to_string(),
        (_, Value::Text(text)) => text.to_owned(),
        (_, Value::Bytes(bytes)) => hex(bytes),
    }
}
