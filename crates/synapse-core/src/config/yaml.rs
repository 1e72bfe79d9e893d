//! YAML text → one tree of nodes that know where they were written. What the nodes mean is decided
//! elsewhere; here are syntax, duplicate keys, merge keys (`<<`) and the bounds against bombs.

use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, StrInput, Tag};

use super::problem::{Place, Problem, key_path};

/// The longest text, in bytes.
const MAX_TEXT: usize = 4 << 20;
/// The deepest nesting.
const MAX_DEPTH: usize = 64;
/// The memory that a tree may take with aliases expanded, in bytes, roughly.
const MAX_TREE: usize = 64 << 20;

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A scalar as written; its type depends on what the reader wants.
#[derive(Clone, Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Without quotes, so that `8080` and `true` are more than text.
    pub(super) plain: bool,
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    /// Of the key itself.
    pub(super) place: Place,
    pub(super) value: Node,
}

impl Node {
    /// The value of `key`, where this is a mapping that has it.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.content {
            Content::Mapping(entries) => entries,
            Content::Scalar(_) | Content::Sequence(_) => &[],
        }
    }

    /// Whether nothing was written: empty, `~` or `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.content, Content::Scalar(s) if s.plain && matches!(&*s.text, "" | "~" | "null" | "Null" | "NULL"))
    }

    /// A text, never taken for another type.
    pub(super) fn text(place: &Place, text: impl Into<String>) -> Self {
        let content = Content::Scalar(Scalar { text: text.into(), plain: false });
        Self { place: place.clone(), content }
    }

    /// A number.
    pub(super) fn number(place: &Place, number: u64) -> Self {
        let content = Content::Scalar(Scalar { text: number.to_string(), plain: true });
        Self { place: place.clone(), content }
    }

    /// A list.
    pub(super) fn sequence(place: &Place, items: Vec<Self>) -> Self {
        Self { place: place.clone(), content: Content::Sequence(items) }
    }

    /// A section, without what is `None`. Each key is placed where its value is.
    pub(super) fn mapping<const N: usize>(place: &Place, entries: [(&str, Option<Self>); N]) -> Self {
        let entries = entries.into_iter().filter_map(|(key, value)| {
            let value = value?;
            Some(Entry { key: key.to_owned(), place: value.place.clone(), value })
        });
        Self { place: place.clone(), content: Content::Mapping(entries.collect()) }
    }

    /// The text of a scalar, unless nothing was written.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(scalar) if !self.is_null() => Some(&scalar.text),
            Content::Scalar(_) | Content::Sequence(_) | Content::Mapping(_) => None,
        }
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self) -> &[Self] {
        match &self.content {
            Content::Sequence(items) => items,
            Content::Scalar(_) | Content::Mapping(_) => &[],
        }
    }

    /// The memory that a copy takes whose paths are longer by `extra`.
    fn cost(&self, extra: usize) -> usize {
        let inner = match &self.content {
            Content::Scalar(scalar) => scalar.text.len(),
            Content::Sequence(items) => items.iter().map(|item| item.cost(extra)).sum(),
            Content::Mapping(entries) => entries
                .iter()
                .map(|e| cost_of(&e.place.path) + extra + e.key.len() + e.value.cost(extra))
                .sum(),
        };
        cost_of(&self.place.path) + extra + inner
    }

    /// The same node, hung below `to` instead of `from`.
    fn rebase(&mut self, from: &str, to: &str) {
        let rebased = |path: &str| path.strip_prefix(from).map(|rest| format!("{to}{rest}"));
        if let Some(path) = rebased(&self.place.path) {
            self.place.path = path;
        }
        match &mut self.content {
            Content::Scalar(_) => {}
            Content::Sequence(items) => items.iter_mut().for_each(|item| item.rebase(from, to)),
            Content::Mapping(entries) => {
                for entry in entries {
                    if let Some(path) = rebased(&entry.place.path) {
                        entry.place.path = path;
                    }
                    entry.value.rebase(from, to);
                }
            }
        }
    }
}

fn cost_of(path: &str) -> usize {
    64 + path.len()
}

/// Reads one YAML (or JSON) document. Mistakes that leave a tree behind are added to `problems`;
/// without a tree, the last problem says why.
pub(super) fn parse(text: &str, problems: &mut Vec<Problem>) -> Option<Node> {
    let start = Place { path: String::new(), line: 1, column: 1 };
    if text.len() > MAX_TEXT {
        problems.push(Problem::new(&start, format!("longer than {} MiB", MAX_TEXT >> 20)));
        return None;
    }
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        room: MAX_TREE,
        problems: Vec::new(),
    };
    let root = builder.document(start);
    problems.append(&mut builder.problems);
    root.map_err(|problem| problems.push(explain_braces(problem, text))).ok()
}

/// `${X}` inside `{ }` and `[ ]` is the one place where our syntax and YAML's get in each other's way.
fn explain_braces(problem: Problem, text: &str) -> Problem {
    let line = text.lines().nth(problem.place.line.saturating_sub(1)).unwrap_or_default();
    if line.contains("${") && line.contains(['{', '[']) {
        return problem.hint("inside { } and [ ], write \"${NAME}\" in quotes");
    }
    problem
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    /// Finished anchored nodes. One that is still open is not here, so no alias can hold itself.
    anchors: HashMap<usize, Node>,
    room: usize,
    problems: Vec<Problem>,
}

/// A mistake that ends the reading.
type Fatal<T> = Result<T, Problem>;

impl<'t> Builder<'t> {
    fn document(&mut self, start: Place) -> Fatal<Node> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(_) if root.is_some() => {
                    return Err(Problem::new(&place("", span.start), "a second document begins here")
                        .hint("a configuration is one document; remove the `---`"));
                }
                Event::DocumentStart(_) => {
                    let (event, span) = self.next()?;
                    root = Some(self.node(event, span, String::new(), 0)?);
                }
                _ => break,
            }
        }
        let empty = Content::Scalar(Scalar { text: String::new(), plain: true });
        Ok(root.unwrap_or(Node { place: start, content: empty }))
    }

    fn next(&mut self) -> Fatal<(Event<'t>, Span)> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(syntax(&error)),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, path: String, depth: usize) -> Fatal<Node> {
        let place = place(&path, span.start);
        if depth > MAX_DEPTH {
            return Err(Problem::new(&place, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        spend(&mut self.room, cost_of(&path), &place)?;
        let (content, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, place),
            Event::Scalar(text, style, anchor, tag) => {
                spend(&mut self.room, text.len(), &place)?;
                let plain = style == ScalarStyle::Plain && !is_text_tag(tag.as_deref());
                self.check_tag(tag.as_deref(), &place);
                (Content::Scalar(Scalar { text: text.into_owned(), plain }), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &place);
                (Content::Sequence(self.sequence(&path, depth)?), anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.check_tag(tag.as_deref(), &place);
                (Content::Mapping(self.mapping(&path, depth)?), anchor)
            }
            _ => return Err(Problem::new(&place, "not valid YAML: a value is missing")),
        };
        let node = Node { place, content };
        if anchor != 0 {
            spend(&mut self.room, node.cost(0), &node.place)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, path: &str, depth: usize) -> Fatal<Vec<Node>> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(items);
            }
            items.push(self.node(event, span, format!("{path}[{}]", items.len()), depth + 1)?);
        }
    }

    fn mapping(&mut self, path: &str, depth: usize) -> Fatal<Vec<Entry>> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines = HashMap::new();
        let mut merged = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key_place = place(path, span.start);
            let (key, plain) = match event {
                Event::MappingEnd => break,
                Event::Scalar(text, style, ..) => (text.into_owned(), style == ScalarStyle::Plain),
                _ => return Err(Problem::new(&key_place, "a key must be text")),
            };
            let (event, span) = self.next()?;
            if plain && key == "<<" {
                let node = self.node(event, span, path.to_owned(), depth + 1)?;
                self.merge(node, path, &mut merged);
                continue;
            }
            let place = Place { path: key_path(path, &key), ..key_place };
            spend(&mut self.room, cost_of(&place.path) + 2 * key.len(), &place)?;
            let value = self.node(event, span, place.path.clone(), depth + 1)?;
            if let Some(first) = lines.get(&key) {
                self.problems.push(Problem::new(&place, format!("already given in line {first}")));
            } else {
                lines.insert(key.clone(), place.line);
                entries.push(Entry { key, place, value });
            }
        }
        // What is written out wins over what is merged in, wherever it stands.
        for entry in merged {
            if lines.insert(entry.key.clone(), entry.place.line).is_none() {
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// What `<<` brings into the mapping at `path`: a mapping, or several, of which the first wins.
    fn merge(&mut self, node: Node, path: &str, into: &mut Vec<Entry>) {
        match node.content {
            Content::Mapping(entries) => into.extend(entries),
            Content::Sequence(items) => {
                for mut item in items {
                    let from = item.place.path.clone();
                    item.rebase(&from, path);
                    self.merge(item, path, into);
                }
            }
            Content::Scalar(_) => {
                self.problems.push(Problem::new(&node.place, "`<<` needs a section, or a list of sections"));
            }
        }
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Fatal<Node> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(Problem::new(&place, "this alias stands inside the value that it repeats"));
        };
        spend(&mut self.room, target.cost(place.path.len()), &place)?;
        let mut node = target.clone();
        node.rebase(&target.place.path, &place.path);
        Ok(node)
    }

    fn check_tag(&mut self, tag: Option<&Tag>, place: &Place) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            self.problems.push(Problem::new(place, format!("unknown tag `{tag}`")).hint("remove it"));
        }
    }
}

fn spend(room: &mut usize, cost: usize, place: &Place) -> Fatal<()> {
    *room = room
        .checked_sub(cost)
        .ok_or_else(|| Problem::new(place, "too large once its aliases are expanded"))?;
    Ok(())
}

fn is_text_tag(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str")
}

fn place(path: &str, mark: Marker) -> Place {
    Place { path: path.to_owned(), line: mark.line().max(1), column: mark.col() + 1 }
}

fn syntax(error: &ScanError) -> Problem {
    Problem::new(&place("", *error.marker()), format!("not valid YAML: {}", error.info()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut problems = Vec::new();
        let root = parse(text, &mut problems);
        assert_eq!(problems, []);
        root.expect("a tree")
    }

    fn problems(text: &str) -> Vec<String> {
        let mut problems = Vec::new();
        parse(text, &mut problems);
        problems.iter().map(ToString::to_string).collect()
    }

    fn text(node: &Node) -> &str {
        match &node.content {
            Content::Scalar(scalar) => &scalar.text,
            other => panic!("not a scalar: {other:?}"),
        }
    }

    #[test]
    fn every_node_knows_its_path_line_and_column() {
        let root = tree("a:\n  - b: 1\n    c: 2\n  - {d: [x]}\n");
        let Content::Sequence(items) = &root.get("a").expect("a").content else { panic!("a list") };
        let second = items[1].get("d").expect("d");
        let Content::Sequence(inner) = &second.content else { panic!("a list") };
        let at = |node: &Node| (node.place.path.clone(), node.place.line, node.place.column);
        assert_eq!(at(&items[0]), ("a[0]".into(), 2, 5));
        assert_eq!(at(items[0].get("c").expect("c")), ("a[0].c".into(), 3, 8));
        assert_eq!(at(&inner[0]), ("a[1].d[0]".into(), 4, 10));
    }

    #[test]
    fn json_is_read_as_yaml() {
        assert_eq!(text(tree("{\"a\": {\"b\": \"c\"}}").get("a").and_then(|a| a.get("b")).expect("b")), "c");
    }

    #[test]
    fn an_empty_document_is_an_empty_tree() {
        assert!(tree("").is_null());
        assert!(tree("# nothing\n").is_null());
    }

    #[test]
    fn a_key_given_twice_is_reported_and_reading_goes_on() {
        assert_eq!(
            problems("a: 1\nb: 2\na: 3\nb: 4\n"),
            ["3:1: a: already given in line 1", "4:1: b: already given in line 2"]
        );
    }

    #[test]
    fn merged_keys_give_way_to_written_ones() {
        let root = tree("base: &b {x: 1, y: 2}\nuse:\n  y: 3\n  <<: *b\n");
        let used = root.get("use").expect("use");
        assert_eq!((text(used.get("x").expect("x")), text(used.get("y").expect("y"))), ("1", "3"));
        assert_eq!(used.get("x").expect("x").place.path, "use.x");
    }

    #[test]
    fn of_several_merged_sections_the_first_wins() {
        let root = tree("a: &a {x: 1}\nb: &b {x: 2, y: 2}\nuse: {<<: [*a, *b]}\n");
        let used = root.get("use").expect("use");
        assert_eq!((text(used.get("x").expect("x")), text(used.get("y").expect("y"))), ("1", "2"));
    }

    #[test]
    fn broken_syntax_has_a_line_and_a_column() {
        let found = problems("a: 1\nb: [1, 2\nc: 3\n");
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("3:") && found[0].contains("not valid YAML"), "{found:?}");
    }

    #[test]
    fn a_variable_between_braces_is_explained() {
        let mut problems = Vec::new();
        parse("server: {port: ${PORT}}\n", &mut problems);
        let hint = problems[0].hint.as_deref().unwrap_or_default();
        assert!(hint.contains("in quotes"), "{problems:?}");
    }

    #[test]
    fn a_second_document_is_refused() {
        assert_eq!(problems("a: 1\n---\nb: 2\n"), ["2:1: a second document begins here"]);
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut bomb = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for n in 1..12 {
            let before = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb += &format!("a{n}: &a{n} [{before}]\n");
        }
        let found = problems(&bomb);
        assert!(found.last().is_some_and(|p| p.contains("too large")), "{found:?}");
    }

    #[test]
    fn an_alias_cannot_repeat_what_it_stands_in() {
        let found = problems("a: &a [*a]\n");
        assert!(found[0].contains("inside the value"), "{found:?}");
    }

    #[test]
    fn deep_nesting_is_refused_in_both_styles() {
        for bomb in ["[".repeat(10_000), "- ".repeat(10_000), "{a: ".repeat(10_000)] {
            assert_eq!(problems(&bomb).len(), 1);
        }
    }

    #[test]
    fn an_overlong_text_is_refused() {
        assert_eq!(problems(&"#".repeat(MAX_TEXT + 1)), ["1:1: longer than 4 MiB"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[\\[\\]{}:,&*!|>'\"%@`#?<\\- \n\tab0-2$~]{0,80}") {
            parse(&text, &mut Vec::new());
        }
    }
}
