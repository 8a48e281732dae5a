use super::*;
use futures_util::FutureExt;
use std::net::Ipv4Addr;

fn exchange() -> Exchange {
    Exchange::new(RequestId::of(&http::HeaderMap::new()), "route".into(), Method::GET, Ipv4Addr::LOCALHOST.into())
}

#[test]
fn an_end_is_seen_whether_it_came_before_or_after_the_look() {
    let exchange = exchange();
    assert_eq!(exchange.ended().now_or_never(), None);
    exchange.end(EndedBy::Operator);
    exchange.end(EndedBy::Interrupt);
    assert_eq!(exchange.ended().now_or_never(), Some(EndedBy::Operator), "the first word counts");
    assert!(!exchange.begin());
}

#[test]
fn what_has_begun_is_not_ended_by_those_who_only_end_what_waits() {
    let begun = exchange();
    assert!(begun.begin() && begun.begin(), "another try is no other request");
    assert!(!begun.end_unless_begun(EndedBy::Replace));
    assert_eq!(begun.ended_by(), None);
    begun.end(EndedBy::Interrupt);
    assert_eq!(begun.ended_by(), Some(EndedBy::Interrupt));
    let waits = exchange();
    assert!(waits.end_unless_begun(EndedBy::Replace));
    assert_eq!(waits.ended_by(), Some(EndedBy::Replace));
    assert!(!waits.begin());
}

#[test]
fn the_first_fault_of_an_upload_stays() {
    let exchange = exchange();
    exchange.upload_failed(UploadFault::TooLarge);
    exchange.upload_failed(UploadFault::Broken);
    assert_eq!(exchange.upload_fault(), Some(UploadFault::TooLarge));
}

#[tokio::test(start_paused = true)]
async fn a_reader_is_stalled_from_the_piece_it_was_handed_until_it_asks_for_more() {
    let exchange = exchange();
    tokio::time::advance(Duration::from_secs(3)).await;
    exchange.set_deadlines(Duration::from_secs(5), None);
    exchange.handed_piece();
    assert_eq!(exchange.reader_deadline(), Some(time::now() + Duration::from_secs(5)));
    exchange.set_deadlines(Duration::from_secs(5), Some(time::now() + Duration::from_secs(1)));
    assert_eq!(exchange.reader_deadline(), Some(time::now() + Duration::from_secs(1)));
    exchange.asked_for_more();
    assert_eq!(exchange.reader_deadline(), None);
}

#[tokio::test(start_paused = true)]
async fn an_alarm_rings_once_and_not_before_its_time() {
    let exchange = exchange();
    assert!(exchange.alarm().is_none() && !exchange.rings());
    let at = time::now() + Duration::from_secs(1);
    exchange.wake_by(at);
    assert_eq!(exchange.alarm(), Some(at));
    assert!(!exchange.rings());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(exchange.rings());
    assert!(exchange.alarm().is_none() && !exchange.rings());
    exchange.wake_by(exchange.arrived);
    exchange.no_alarm();
    assert!(!exchange.rings());
    exchange.wake_by(exchange.arrived - Duration::from_secs(9));
    assert!(exchange.rings(), "what is past is due");
}

#[test]
fn interim_responses_are_taken_once() {
    let exchange = exchange();
    assert!(exchange.take_interim().is_empty());
    exchange.leave_interim(b"HTTP/1.1 103 Early Hints\r\n\r\n");
    exchange.leave_interim(b"x");
    assert!(exchange.take_interim().ends_with(b"\r\nx"));
    assert!(exchange.take_interim().is_empty());
}

#[test]
fn every_phase_has_its_own_number() {
    for (number, phase) in Phase::ALL.into_iter().enumerate() {
        assert_eq!(phase as usize, number);
    }
}
