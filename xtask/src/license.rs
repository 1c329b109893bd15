//! SPDX license expressions.

/// Whether an expression can be satisfied with the licenses of `allowed` alone.
///
/// Understands `AND`, `OR`, parentheses, `WITH` (an exception makes another license) and the
/// old `/` for `OR`. Returns `None` for what is no expression.
pub(crate) fn satisfied(expression: &str, allowed: &[String]) -> Option<bool> {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut parser = Parser { words: spaced.split_whitespace().collect(), at: 0, allowed };
    let satisfied = parser.any()?;
    (parser.at == parser.words.len()).then_some(satisfied)
}

struct Parser<'a> {
    words: Vec<&'a str>,
    at: usize,
    allowed: &'a [String],
}

impl Parser<'_> {
    fn takes(&mut self, word: &str) -> bool {
        let takes = self.words.get(self.at) == Some(&word);
        self.at += usize::from(takes);
        takes
    }

    fn any(&mut self) -> Option<bool> {
        let mut satisfied = self.all()?;
        while self.takes("OR") {
            satisfied |= self.all()?;
        }
        Some(satisfied)
    }

    fn all(&mut self) -> Option<bool> {
        let mut satisfied = self.one()?;
        while self.takes("AND") {
            satisfied &= self.one()?;
        }
        Some(satisfied)
    }

    fn one(&mut self) -> Option<bool> {
        if self.takes("(") {
            let satisfied = self.any()?;
            return self.takes(")").then_some(satisfied);
        }
        let mut name = self.name()?;
        if self.takes("WITH") {
            name = format!("{name} WITH {}", self.name()?);
        }
        Some(self.allowed.contains(&name))
    }

    fn name(&mut self) -> Option<String> {
        let word = self.words.get(self.at).copied()?;
        let is_name = !matches!(word, "(" | ")" | "AND" | "OR" | "WITH");
        self.at += 1;
        is_name.then(|| word.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_evaluated_as_spdx_says() {
        let allowed = ["MIT".to_owned(), "ISC".to_owned()];
        for (expression, expected) in [
            ("MIT", Some(true)),
            ("GPL-3.0-only", Some(false)),
            ("Apache-2.0 OR MIT", Some(true)),
            ("MIT/Apache-2.0", Some(true)),
            ("ISC AND (Apache-2.0 OR ISC)", Some(true)),
            ("ISC AND Apache-2.0", Some(false)),
            // AND binds tighter than OR.
            ("MIT OR ISC AND GPL-3.0-only", Some(true)),
            ("(MIT OR ISC) AND GPL-3.0-only", Some(false)),
            ("MIT WITH LLVM-exception", Some(false)),
            ("MIT WITH LLVM-exception OR ISC", Some(true)),
            ("", None),
            ("MIT OR", None),
            ("(MIT", None),
            ("MIT ISC", None),
        ] {
            assert_eq!(satisfied(expression, &allowed), expected, "{expression}");
        }
    }
}
