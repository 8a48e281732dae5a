//! Records of jobs, as they stand in the store: whatever is read is written again octet for octet, so that nothing is read that
//! no release has written. Requests and answers hold fields and addresses, whose spelling may become the usual one: once
//! written anew they stay as they are. An octet that says which of the three it is, then the octets.

use turnwise::background::job::{Answer, Request};
use turnwise::background::record::Record;

/// As the module says.
pub fn check(input: &[u8]) {
    let Some((kind, octets)) = input.split_first() else { return };
    match kind % 3 {
        0 => {
            let Ok(record) = Record::read(octets) else { return };
            assert_eq!(record.write(), octets, "{record:?}");
            assert!(record.ended.is_some() == record.status.has_ended(), "{record:?}");
            // What is behind its end, and what is not there yet, makes it no record.
            assert!(Record::read(&[octets, &[0]].concat()).is_err());
            for length in 0..octets.len() {
                assert!(Record::read(&octets[..length]).is_err(), "{length}");
            }
        }
        1 => {
            let Ok(request) = Request::read(octets) else { return };
            let written = request.write();
            let again = Request::read(&written).expect("what was written");
            assert_eq!((again.write(), format!("{again:?}")), (written, format!("{request:?}")));
        }
        _ => {
            let Ok(answer) = Answer::read(octets) else { return };
            let written = answer.write();
            let again = Answer::read(&written).expect("what was written");
            assert_eq!((again.write(), format!("{again:?}")), (written, format!("{answer:?}")));
        }
    }
}
