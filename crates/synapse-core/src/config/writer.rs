//! A tree of nodes → YAML text in block style.

use super::yaml::{Content, Node, Scalar};

/// YAML text that reads back as the same tree, but for the places.
pub(super) fn write(root: &Node) -> String {
    let mut text = String::new();
    match &root.content {
        Content::Scalar(_) => inline(&mut text, root),
        Content::Sequence(_) | Content::Mapping(_) => block(&mut text, root, 0),
    }
    text
}

/// The lines of a section or list, each indented by `depth` levels, the first one included.
fn block(text: &mut String, node: &Node, depth: usize) {
    match &node.content {
        Content::Mapping(entries) => {
            for entry in entries {
                indent(text, depth);
                text.push_str(&quoted_if_needed(&entry.key, false));
                text.push(':');
                below(text, &entry.value, depth);
            }
        }
        Content::Sequence(items) => {
            for item in items {
                indent(text, depth);
                text.push('-');
                match &item.content {
                    Content::Mapping(entries) if !entries.is_empty() => {
                        // The first key stands beside the dash, where the indentation would be.
                        let start = text.len();
                        block(text, item, depth + 1);
                        text.replace_range(start..start + 2 * (depth + 1), " ");
                    }
                    _ => below(text, item, depth),
                }
            }
        }
        Content::Scalar(_) => inline(text, node),
    }
}

/// A value after its key or dash: on the same line, or on the lines below.
fn below(text: &mut String, node: &Node, depth: usize) {
    let is_empty = match &node.content {
        Content::Scalar(_) => true,
        Content::Sequence(items) => items.is_empty(),
        Content::Mapping(entries) => entries.is_empty(),
    };
    if is_empty {
        text.push(' ');
        inline(text, node);
    } else {
        text.push('\n');
        block(text, node, depth + 1);
    }
}

fn inline(text: &mut String, node: &Node) {
    match &node.content {
        Content::Scalar(_) if node.is_null() => text.push_str("null"),
        Content::Scalar(Scalar { text: value, plain }) => text.push_str(&quoted_if_needed(value, *plain)),
        Content::Sequence(_) => text.push_str("[]"),
        Content::Mapping(_) => text.push_str("{}"),
    }
    text.push('\n');
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Quotes what would not be read as the same text, or, unless `plain`, not as text at all.
fn quoted_if_needed(text: &str, plain: bool) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"_./:@+=*${}-".contains(&b);
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || "/_$".contains(c));
    let is_word = begins_well && text.bytes().all(safe) && !text.ends_with(':');
    let is_other_type = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
    );
    let is_number = plain && text.parse::<f64>().is_ok();
    if (is_word && (plain || !is_other_type)) || is_number {
        text.to_owned()
    } else {
        // A JSON string is a YAML string.
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml::parse;

    fn rewritten(text: &str) -> String {
        let mut problems = Vec::new();
        let tree = parse(text, &mut problems).expect("a tree");
        assert_eq!(problems, []);
        write(&tree)
    }

    #[test]
    fn block_style_comes_back_as_it_is() {
        let text = "a:\n  - b: x\n    c:\n      - 1\n      - \"2\"\n  - d: {}\ne: ${KEY:-x}\nf: \"true\"\ng: \"a b: c\"\n";
        assert_eq!(rewritten(text), text);
    }

    #[test]
    fn nested_lists_are_written_below_their_dash() {
        assert_eq!(rewritten("[[a, [b]], []]"), "-\n  - a\n  -\n    - b\n- []\n");
    }

    proptest::proptest! {
        #[test]
        fn any_text_survives(text in "\\PC{0,20}|[ -~]{0,20}", key in "[ -~]{1,8}") {
            let json = serde_json::json!({ key: [text, {"x": text}] }).to_string();
            let mut problems = Vec::new();
            let before = parse(&json, &mut problems).expect("a tree");
            let after = parse(&write(&before), &mut problems).expect("a tree");
            proptest::prop_assert_eq!(shape(&before), shape(&after));
        }
    }

    fn shape(node: &Node) -> serde_json::Value {
        match &node.content {
            Content::Scalar(scalar) => scalar.text.clone().into(),
            Content::Sequence(items) => items.iter().map(shape).collect(),
            Content::Mapping(entries) => entries
                .iter()
                .map(|e| (e.key.clone(), shape(&e.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }
}
