//! Taking apart JSON that was checked before: where the fields of an object and the elements of a list stand, and
//! nothing of what is in them.

use std::borrow::Cow;

use memchr::memchr2;

/// The text is no object or list, which it would be if it had been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it cannot be taken apart (at byte {0})")]
pub struct NotChecked(usize);

/// Tells of each field of an object.
pub(crate) fn fields<'a>(
    text: &'a str,
    mut field: impl FnMut(Cow<'a, str>, &'a str),
) -> Result<(), NotChecked> {
    let mut skimmer = Skimmer { text, at: 0 };
    skimmer.open(b'{')?;
    while !skimmer.takes(b'}') {
        let quoted = skimmer.value()?;
        let key = crate::walk::unquote(quoted).ok_or(NotChecked(skimmer.at))?;
        if !skimmer.takes(b':') {
            return Err(NotChecked(skimmer.at));
        }
        field(key, skimmer.value()?);
        skimmer.takes(b',');
    }
    Ok(())
}

/// The elements of a list, as they are.
pub(crate) fn elements(text: &str) -> Result<Vec<&str>, NotChecked> {
    let mut skimmer = Skimmer { text, at: 0 };
    skimmer.open(b'[')?;
    let mut elements = Vec::with_capacity(4);
    while !skimmer.takes(b']') {
        elements.push(skimmer.value()?);
        skimmer.takes(b',');
    }
    Ok(elements)
}

struct Skimmer<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Skimmer<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Passes over this byte, spaces before it aside, if it comes next.
    fn takes(&mut self, byte: u8) -> bool {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn open(&mut self, byte: u8) -> Result<(), NotChecked> {
        // A byte order mark may stand before everything.
        self.at = if self.text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
        if self.takes(byte) { Ok(()) } else { Err(NotChecked(self.at)) }
    }

    /// A value of any kind.
    fn value(&mut self) -> Result<&'a str, NotChecked> {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
        let start = self.at;
        match self.peek() {
            Some(b'"') => self.string()?,
            Some(b'{' | b'[') => self.nested()?,
            Some(_) => {
                let rest = &self.text.as_bytes()[self.at..];
                let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
                self.at += rest.iter().position(ends).unwrap_or(rest.len());
            }
            None => {}
        }
        if self.at == start { Err(NotChecked(start)) } else { Ok(&self.text[start..self.at]) }
    }

    fn string(&mut self) -> Result<(), NotChecked> {
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let stop = memchr2(b'"', b'\\', rest).ok_or(NotChecked(self.at))?;
            self.at += stop + 1;
            if rest[stop] == b'"' {
                return Ok(());
            }
            // What is escaped ends no string.
            self.at += 1;
        }
    }

    /// An object or a list, whatever is in it.
    fn nested(&mut self) -> Result<(), NotChecked> {
        let mut depth = 0_usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                    continue;
                }
                Some(b'{' | b'[') => depth += 1,
                Some(b'}' | b']') => depth = depth.saturating_sub(1),
                Some(_) => {}
                None => return Err(NotChecked(self.at)),
            }
            self.at += 1;
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::json::Object;

    #[test]
    fn elements_are_as_they_stand() {
        let list = r#" [ {"a":"]"} , [1,[2]],"x\"," , -1e3,null ] "#;
        let want = [r#"{"a":"]"}"#, "[1,[2]]", r#""x\",""#, "-1e3", "null"];
        assert_eq!(elements(list).expect("a list"), want);
        assert_eq!(elements("[]").expect("a list"), Vec::<&str>::new());
    }

    #[test]
    fn what_is_no_list_or_object_is_told() {
        for bad in ["", "{", "[1", "[\"", "x", "[,]", "[{]"] {
            assert!(elements(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn an_object_is_taken_apart_as_a_reader_reads_it(
            keys in prop::collection::btree_set("[a-z\"é]{1,6}", 0..6),
            text in ".{0,20}",
            spaced: bool,
        ) {
            let value = |n: usize| serde_json::json!([{ "in": text, "n": n }, text, n, null, [], {}]);
            let object: serde_json::Map<_, _> = keys.into_iter().enumerate().map(|(n, key)| (key, value(n))).collect();
            let json = if spaced { serde_json::to_string_pretty(&object) } else { serde_json::to_string(&object) };
            let json = json.expect("JSON");
            let (read, skimmed) = (Object::parse(json.as_bytes()).expect("JSON"), Object::of_checked(json.as_bytes()).expect("JSON"));
            let all = |object: &Object<'_>| object.keys().map(|key| (key.to_owned(), object.get(key).map(str::to_owned))).collect::<Vec<_>>();
            prop_assert_eq!(all(&read), all(&skimmed));
        }

        #[test]
        fn no_text_makes_it_stumble(text in "[\\[\\]{}\",:\\\\a1 é]{0,40}") {
            let _ = elements(&text);
            let _ = fields(&text, |_, _| {});
        }
    }
}
