//! The frame of every page: nothing in it comes from elsewhere.

use super::svg::escaped;

const STYLE: &str = include_str!("page.css");

/// A page with a title and what it shows, as HTML.
pub(crate) fn whole(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{}</title><style>{STYLE}</style></head><body>{body}</body></html>\n",
        escaped(title),
    )
}
