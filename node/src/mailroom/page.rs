//! Which part of a list is asked for.

use std::ops::ControlFlow;

/// Items that one listing gives at most.
pub const LIST_MAX: usize = 1_000;

/// A part of a list that begins with the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    limit: usize,
    /// Only what is older than the item with this id.
    pub before: Option<[u8; 16]>,
}

impl Page {
    /// The newest items, at most `limit` of them and no more than [`LIST_MAX`], all older than `before` if that is named.
    pub fn new(limit: Option<usize>, before: Option<[u8; 16]>) -> Page {
        Page { limit: limit.unwrap_or(LIST_MAX).clamp(1, LIST_MAX), before }
    }

    /// Adds an item, and says whether there is room for another.
    pub(super) fn take<T>(&self, list: &mut Vec<T>, item: T) -> ControlFlow<()> {
        list.push(item);
        if list.len() < self.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

impl Default for Page {
    fn default() -> Page {
        Page::new(None, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_never_empty_and_never_without_end() {
        let check = |limit: Option<usize>, expected: usize| assert_eq!(Page::new(limit, None).limit, expected);
        check(None, LIST_MAX);
        check(Some(0), 1);
        check(Some(7), 7);
        check(Some(usize::MAX), LIST_MAX);
    }
}
