//! Reads Rust source as the tidy test needs it: code without comments and text, functions with their lengths.

/// `source` with comments and the insides of string and character literals blanked; every line stays where it was.
pub fn code(source: &str) -> String {
    Blanker { rest: source, out: String::with_capacity(source.len()), last: ' ' }.run()
}

/// `code` with everything under `#[cfg(test)]` blanked.
pub fn without_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(at) = out[from..].find(MARK).map(|at| from + at) {
        let end = item_end(&out, at + MARK.len());
        let blank: String = out[at..end].chars().map(blank).collect();
        out.replace_range(at..end, &blank);
        from = at;
    }
    out
}

/// Whether `code` holds `word` as a whole identifier (or path of identifiers).
pub fn names(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The lengths of all functions in `code`: (name, first line, lines).
pub fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(is_word) {
            continue;
        }
        let rest = &code[at + 3..];
        let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
        let end = item_end(code, at);
        if name.is_empty() || !code[..end].ends_with('}') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        found.push((name, line, code[at..end].matches('\n').count() + 1));
    }
    found
}

/// Where the item that starts at `from` ends: after its `;`, or after the brace that closes its body.
fn item_end(code: &str, from: usize) -> usize {
    let (mut braces, mut others) = (0u32, 0u32);
    for (at, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 {
                    return from + at + 1;
                }
            }
            ';' if braces == 0 && others == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn blank(c: char) -> char {
    if c == '\n' { '\n' } else { ' ' }
}

/// Copies code, blanks the rest.
struct Blanker<'a> {
    rest: &'a str,
    out: String,
    last: char,
}

impl Blanker<'_> {
    fn run(mut self) -> String {
        while let Some(c) = self.rest.chars().next() {
            if self.rest.starts_with("//") {
                self.skip(self.rest.find('\n').unwrap_or(self.rest.len()));
            } else if self.rest.starts_with("/*") {
                self.skip(comment_bytes(self.rest));
            } else if let Some(bytes) = self.raw_text_bytes() {
                self.skip(bytes);
            } else if c == '"' {
                self.skip(quoted_bytes(self.rest, '"'));
            } else if c == '\'' && is_character(self.rest) {
                self.skip(quoted_bytes(self.rest, '\''));
            } else {
                self.out.push(c);
                self.last = c;
                self.rest = &self.rest[c.len_utf8()..];
            }
        }
        self.out
    }

    fn skip(&mut self, bytes: usize) {
        self.out.extend(self.rest[..bytes].chars().map(blank));
        self.rest = &self.rest[bytes..];
        self.last = ' ';
    }

    /// The length of `r"…"`, `r#"…"#`, `br"…"` and so on, if one starts here.
    fn raw_text_bytes(&self) -> Option<usize> {
        if is_word(self.last) {
            return None;
        }
        let start = ["br", "cr", "r"].into_iter().find(|prefix| self.rest.starts_with(prefix))?.len();
        let hashes = self.rest[start..].chars().take_while(|&c| c == '#').count();
        let text = start + hashes + 1;
        self.rest[start + hashes..].starts_with('"').then_some(())?;
        let close = format!("\"{}", "#".repeat(hashes));
        let length = self.rest[text..].find(&close).unwrap_or(self.rest.len() - text - close.len());
        Some(text + length + close.len())
    }
}

fn is_character(rest: &str) -> bool {
    let mut chars = rest.chars().skip(1);
    match chars.next() {
        Some('\\') => true,
        Some(_) => chars.next() == Some('\''),
        None => false,
    }
}

fn quoted_bytes(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn comment_bytes(rest: &str) -> usize {
    let (mut depth, mut at) = (0u32, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_comments_are_blanked_and_lines_stay() {
        let rows = [
            ("let a = \"redb\"; // redb\nredb", "let a =       ;        \nredb"),
            ("r#\"re\"db\"# x", "           x"),
            ("/* a /* b */ c */ x", "                  x"),
            ("'\"' 'a 'x", "    'a 'x"),
            ("\"\\\"\" y", "     y"),
            ("br\"\\\" y", "      y"),
            ("for_r\"x\"", "for_r   "),
        ];
        for (source, wanted) in rows {
            assert_eq!(code(source), wanted, "{source}");
        }
    }

    #[test]
    fn words_are_whole_and_tests_do_not_count() {
        assert!(names("use redb::Db", "redb"));
        assert!(!names("use redbull::Db", "redb"));
        let source = "use a;\n#[cfg(test)]\nmod tests { use b; fn x() { 1 } }\nuse c;";
        let bare = without_tests(source);
        assert!(names(&bare, "a") && !names(&bare, "b") && names(&bare, "c"));
        assert_eq!(bare.matches('\n').count(), 3);
    }

    #[test]
    fn functions_have_names_lines_and_lengths() {
        let source = "\nfn one() {}\nimpl X {\n    fn two<T: Fn(u8) -> [u8; 2]>(\n        a: T,\n    ) {\n        loop {}\n    }\n    fn three();\n}\ntype F = fn (u8);";
        assert_eq!(functions(source), [("one".into(), 2, 1), ("two".into(), 4, 5)]);
    }
}
