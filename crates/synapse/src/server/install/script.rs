//! The script of `/run`, with what this gateway has to say in its places.

use synapse_core::config::ExternalUrl;

use super::binaries::Offer;

/// A script in itself, so that it can be checked like any other.
const TEMPLATE: &str = include_str!("install.sh");

/// The script for whoever reaches the gateway by `url`. All that is put into it is of letters, digits and
/// a few signs that mean nothing to a shell: see [`ExternalUrl`], `Platform` and `Sum`.
pub(super) fn render(url: &ExternalUrl, offer: &Offer) -> String {
    let offered: Vec<_> =
        offer.iter().map(|(platform, binary)| format!("{platform}={}", binary.sum)).collect();
    TEMPLATE
        .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
        .replace("@BASE_URL@", &url.to_string())
        .replace("@TUNNEL_URL@", &url.tunnel())
        .replace("@OFFERED@", &offered.join(" "))
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use proptest::prelude::*;

    use super::*;

    /// Whether bash would run this text.
    fn is_bash(script: &str) -> bool {
        let mut bash =
            Command::new("bash").arg("-n").stdin(Stdio::piped()).stderr(Stdio::null()).spawn().expect("bash");
        bash.stdin.take().expect("its stdin").write_all(script.as_bytes()).expect("all of it");
        bash.wait().expect("its end").success()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn a_host_never_makes_the_script_another_one(
            host in r#"[a-z0-9.:@/'"`$(){};&|<>\\#!* \n\[\]-]{0,12}|[a-z.-]{1,9}(:[0-9]{1,6})?|\[[0-9a-f:]{2,9}\]"#
        ) {
            let Some(url) = ExternalUrl::of_authority(true, &host) else { return Ok(()) };
            let script = render(&url, &Offer::default());
            prop_assert!(is_bash(&script), "{host}");
            let usual = ExternalUrl::of_authority(true, "usual.example").expect("a host");
            prop_assert_eq!(script, render(&usual, &Offer::default()).replace("usual.example", &host));
        }
    }

    #[test]
    fn every_place_of_the_template_is_filled() {
        let url = ExternalUrl::parse("https://gateway.example.com:8443").expect("a URL");
        let script = render(&url, &Offer::default());
        assert!(!script.contains("@VERSION@") && !script.contains("_URL@") && !script.contains("@OFFERED@"));
        let lines = "local base_url='https://gateway.example.com:8443' tunnel_url='wss://gateway.example.com:8443/ws'";
        assert!(script.contains(lines), "{script}");
        assert!(script.ends_with("\n{ synapse_install \"$@\"; exit; }\n"));
    }
}
