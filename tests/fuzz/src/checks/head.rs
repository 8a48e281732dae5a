//! What is looked at before hyper reads: no head that a strict reader refuses is taken for good, and the inspector knows
//! where requests end, whatever pieces they come in. An octet for the pieces, then the octets of a connection.

use crate::reference::{self, Read};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use turnwise::request::check_head;
use turnwise::request::framing::MAX_FIELDS;
use turnwise::server::inspect::{Inspector, Seen};

const MAX_HEAD: usize = 64 * 1024;

/// Whether hyper would make no request of a head, or the gateway refuses the request. What hyper lets vanish is left out.
fn is_refused(head: &[u8]) -> bool {
    read_as_hyper_does(head)
        .is_none_or(|(version, method, uri, headers)| check_head(version, &method, &uri, &headers).is_err())
}

fn read_as_hyper_does(head: &[u8]) -> Option<(Version, Method, Uri, HeaderMap)> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return None;
    }
    let version = if request.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let method = request.method?.parse().ok()?;
    let uri = request.path?.parse().ok()?;
    let mut headers = HeaderMap::new();
    for field in request.headers.iter() {
        headers.append(HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?);
    }
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = headers.get(header::CONTENT_LENGTH).cloned()
        && headers.get_all(header::CONTENT_LENGTH).iter().all(|other| *other == length)
    {
        headers.insert(header::CONTENT_LENGTH, length);
    }
    Some((version, method, uri, headers))
}

/// As the module says.
pub fn check(input: &[u8]) {
    let Some((piece, octets)) = input.split_first() else { return };
    // Octet by octet: which heads have ended where, and after which octets nothing is begun.
    let mut inspector = Inspector::new(MAX_HEAD);
    let (mut heads, mut too_large, mut pristine) = (Vec::new(), false, vec![true]);
    for (at, octet) in octets.iter().enumerate() {
        inspector.look(&[*octet], |seen| match seen {
            Seen::HeadEnded(verdict) => heads.push((at + 1, verdict)),
            Seen::HeadTooLarge(_) => too_large = true,
            Seen::Lost(_) => {}
        });
        pristine.push(inspector.is_pristine());
        assert!(!inspector.is_pristine() || (inspector.is_between_requests() && !inspector.is_in_head()));
    }

    // Pieces make no difference.
    let mut inspector = Inspector::new(MAX_HEAD);
    let (mut verdicts, mut also_too_large, mut read) = (Vec::new(), false, 0);
    for piece in octets.chunks(usize::from(*piece) + 1) {
        inspector.look(piece, |seen| match seen {
            Seen::HeadEnded(verdict) => verdicts.push(verdict),
            Seen::HeadTooLarge(_) => also_too_large = true,
            Seen::Lost(_) => {}
        });
        read += piece.len();
        assert_eq!(inspector.is_pristine(), pristine[read], "after {read} octets");
    }
    assert_eq!(verdicts, heads.iter().map(|(_, verdict)| *verdict).collect::<Vec<_>>());
    assert_eq!(too_large, also_too_large);

    let (mut at, mut number) = (0, 0);
    loop {
        // Where what comes next begins, after empty lines.
        let mut begins = at;
        while octets[begins..].starts_with(b"\r\n") {
            begins += 2;
        }
        let read = reference::request(octets, at);
        let head = heads.get(number);
        match read {
            Read::Whole(request) => {
                let Some((head_end, verdict)) = head else {
                    assert!(too_large, "a head that was not seen");
                    return;
                };
                assert_eq!((*head_end, *verdict), (request.head_end, None));
                // Nothing is taken for an end that is none.
                assert!(!pristine[begins + 1..request.end].contains(&true), "pristine amid a request");
                assert!(pristine[request.end] || too_large, "not pristine after {} octets", request.end);
                (at, number) = (request.end, number + 1);
                if !pristine[at] {
                    return;
                }
            }
            Read::Partial(head_of_it) => {
                assert!(!pristine[begins + 1..=octets.len()].contains(&true), "pristine amid a request");
                if let (Some(request), Some((head_end, verdict))) = (head_of_it, head) {
                    assert_eq!((*head_end, *verdict), (request.head_end, None));
                }
                return;
            }
            Read::Bad(why, None) => {
                // Refused, if it ever ends.
                let Some((head_end, verdict)) = head else { return };
                assert!(verdict.is_some() || is_refused(&octets[begins..*head_end]), "{why}, and it is not refused");
                return;
            }
            // In the body; there hyper finds it.
            Read::Bad(_, Some(_)) => return,
        }
    }
}
