//! Ids as people type them: whole, or their first digits.

use crate::api::types::{ErrorCode, ServiceError};

use super::Answer;

/// Digits that an abbreviated id has at least.
const PREFIX_DIGITS_MIN: usize = 8;

/// All ids that begin with what was typed, from the first to the last; none where it can begin no id.
pub(super) fn span(typed: &str) -> Option<([u8; 16], [u8; 16])> {
    let filled = |digit: char| {
        let mut id = [0; 16];
        let text = format!("{typed:\0<32}").replace('\0', &digit.to_string());
        hex::decode_to_slice(text, &mut id).ok().map(|()| id)
    };
    (typed.len() >= PREFIX_DIGITS_MIN && typed.is_ascii()).then_some(())?;
    Some((filled('0')?, filled('f')?))
}

/// Which one of `candidates` was meant by `typed`: the whole text form of its id, or so many of its first digits that
/// it fits no other.
///
/// # Errors
/// `not_found` for none, `usage` for several.
pub(super) fn pick<T: PartialEq>(
    what: &str,
    typed: &str,
    see: &str,
    candidates: impl IntoIterator<Item = (String, T)>,
) -> Answer<T> {
    let unknown = || {
        let shown: String = typed.chars().take(80).collect();
        ServiceError::new(
            ErrorCode::NotFound,
            format!("there is no {what} with the id {shown}"),
            format!("see `{see}`"),
        )
    };
    let digits = typed.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
    if !digits || typed.len() < PREFIX_DIGITS_MIN {
        return Err(unknown());
    }
    let mut found: Option<T> = None;
    for (id, candidate) in candidates.into_iter().filter(|(id, _)| id.starts_with(typed)) {
        if id == typed {
            return Ok(candidate);
        }
        if found.as_ref().is_some_and(|found| *found != candidate) {
            let message = format!("the id {typed} fits more than one {what}");
            return Err(ServiceError::new(ErrorCode::Usage, message, "give more of its digits"));
        }
        found = Some(candidate);
    }
    found.ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_digits_span_the_ids_that_begin_with_them() {
        let check = |typed: &str, expected: Option<(&str, &str)>| {
            let found = span(typed).map(|(first, last)| (hex::encode(first), hex::encode(last)));
            let expected = expected.map(|(first, last)| (format!("{first:0<32}"), format!("{last:f<32}")));
            assert_eq!(found, expected, "{typed}");
        };
        check("0123abcd", Some(("0123abcd", "0123abcd")));
        check("0123abcde", Some(("0123abcde", "0123abcde")));
        check(&"0f".repeat(16), Some((&"0f".repeat(16), &"0f".repeat(16))));
        check("0123abc", None);
        check("0123abcx", None);
        check("0123abcé", None);
        check(&"0".repeat(33), None);
    }

    #[test]
    fn first_digits_are_enough_when_they_fit_one() {
        let ids = ["aaaaaaaa11", "aaaaaaaa22", "bbbbbbbb33", "bbbbbbbb"];
        let check = |typed: &str, expected: Result<usize, ErrorCode>| {
            let candidates = ids.iter().enumerate().map(|(at, id)| ((*id).to_owned(), at));
            let picked = pick("message", typed, "pakt outbox list", candidates);
            assert_eq!(picked.map_err(|error| error.code), expected, "{typed}");
        };
        check("aaaaaaaa11", Ok(0));
        check("aaaaaaaa2", Ok(1));
        check("aaaaaaaa", Err(ErrorCode::Usage));
        check("bbbbbbbb", Ok(3));
        check("bbbbbbb", Err(ErrorCode::NotFound));
        check("", Err(ErrorCode::NotFound));
        check("cccccccc", Err(ErrorCode::NotFound));
        check("AAAAAAAA11", Err(ErrorCode::NotFound));
        check("aaaaaaaa11../", Err(ErrorCode::NotFound));
    }
}
