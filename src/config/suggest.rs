/// The word of `known` that `written` was probably meant to be.
///
/// Case and the choice between `-` and `_` do not count; otherwise about a third of the letters may differ, swapped
/// neighbours counting once.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64;
    if written.chars().count() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('-', "_");
    let target = plain(written);
    let allowed = (target.chars().count().max(3) / 3).min(3);
    known
        .into_iter()
        .map(|word| (strsim::osa_distance(&target, &plain(word)), word))
        .filter(|(distance, word)| {
            *distance <= allowed || (target.len() >= 4 && plain(word).starts_with(&target)) // a word cut short
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// What to say of a word that is not among those known.
pub(super) fn hint(written: &str, known: &[&str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(word) => format!("did you mean `{word}`?"),
        None => {
            let list: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("known here: {}", list.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_is_recognised() {
        let known = ["upstreams", "routes", "queue_timeout", "concurrency"];
        assert_eq!(nearest("rotues", known), Some("routes"));
        assert_eq!(nearest("queue-timeout", known), Some("queue_timeout"));
        assert_eq!(nearest("Concurency", known), Some("concurrency"));
        assert_eq!(nearest("upstream", known), Some("upstreams"));
    }

    #[test]
    fn another_word_is_no_slip() {
        assert_eq!(nearest("colour", ["routes", "listen"]), None);
        assert_eq!(hint("colour", &["routes", "listen"]), "known here: `routes`, `listen`");
    }

    #[test]
    fn a_very_long_word_costs_nothing() {
        assert_eq!(nearest(&"x".repeat(1 << 20), ["routes"]), None);
    }
}
