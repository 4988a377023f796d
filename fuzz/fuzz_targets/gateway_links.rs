//! Lets pages of any bytes pass through the gateway in any pieces: the browser gets what a look at the whole page says.

#![no_main]

use emr_shs::testing::{relinked, relinked_run};
use libfuzzer_sys::fuzz_target;
use regex::bytes::Regex;
use std::sync::LazyLock;

const PREFIX: &str = "http://ip-1:9977/logs/";
/// The path of the logs of a job run of EMR Serverless.
const RUN: &str = "/logs/s3/acme/applications/00abcdefghij0001/jobs/00f5trm1fv0d3p0b/";
/// A link, of at most as many bytes as the gateway looks at.
static LINK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r#"(?s-u)http[^ \t\n\x0c\r"'<>\\]{0,2044}"#).unwrap());
/// What follows the address of a NodeManager in a link to a log.
static LIVE: LazyLock<Regex> = LazyLock::new(|| {
    let container = "container_(?:e[0-9]+_)?[0-9]+_[0-9]+_[0-9]+_[0-9]+";
    Regex::new(&format!(r"/node/containerlogs/({container})/[^/?#]*/([A-Za-z0-9._-]+)(?:[/?#]|\z)")).unwrap()
});

fuzz_target!(|data: &[u8]| {
    let Some((cuts, page)) = data.split_first_chunk::<8>() else { return };
    // Each byte says how long a piece is.
    let (mut pieces, mut rest) = (Vec::new(), page);
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*cut)));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    for is_page in [false, true] {
        let found = relinked_run(&pieces, RUN, is_page);
        assert_eq!(found, relinked_run(&[page], RUN, is_page), "in pieces");
    }
    for base in ["", "/shs"] {
        let found = relinked(&pieces, Some(PREFIX), base);
        assert_eq!(found, relinked(&[page], Some(PREFIX), base), "in pieces");
        let mut at = 0;
        let mut rest = found.as_slice();
        for link in LINK.find_iter(page) {
            let (before, link) = (&page[at..link.start()], link.as_bytes());
            rest = rest.strip_prefix(before).expect("what is no link stays");
            at += before.len() + link.len();
            if let Some(same) = rest.strip_prefix(link) {
                rest = same;
                assert!(!link.starts_with(PREFIX.as_bytes()) || str::from_utf8(link).is_err(), "an own link stays");
                continue;
            }
            let own = link.strip_prefix(PREFIX.as_bytes()).map(<[u8]>::to_vec);
            let live = || LIVE.captures(link).map(|live| [&live[1], b"/", &live[2]].concat());
            let log = own.or_else(live).expect("only links to logs change");
            let wanted = [base.as_bytes(), b"/logs/", &log].concat();
            rest = rest.strip_prefix(wanted.as_slice()).unwrap_or_else(|| panic!("{}", link.escape_ascii()));
        }
        assert_eq!(rest, &page[at..], "the end");
    }
});
