//! A tree of sentences, as terminals show it.
//!
//! Decides: nothing.

/// A line with lines below it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Branch {
    text: String,
    below: Vec<Branch>,
}

impl Branch {
    /// A line with nothing below it.
    pub fn of(text: impl Into<String>) -> Branch {
        Branch { text: text.into(), below: Vec::new() }
    }

    /// The same with these lines below it, after those that are there.
    #[must_use]
    pub fn with(mut self, below: impl IntoIterator<Item = Branch>) -> Branch {
        self.below.extend(below);
        self
    }

    /// The tree as text, one line each, without a newline at the end.
    pub fn draw(&self) -> String {
        let mut lines = vec![self.text.clone()];
        self.draw_below("", &mut lines);
        lines.join("\n")
    }

    fn draw_below(&self, before: &str, lines: &mut Vec<String>) {
        for (at, branch) in self.below.iter().enumerate() {
            let last = at + 1 == self.below.len();
            lines.push(format!("{before}{}{}", if last { "└─ " } else { "├─ " }, branch.text));
            branch.draw_below(&format!("{before}{}", if last { "   " } else { "│  " }), lines);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_hang_below_what_they_belong_to() {
        let tree = Branch::of("a").with([Branch::of("b").with([Branch::of("c")]), Branch::of("d").with([Branch::of("e")])]);
        assert_eq!(tree.draw(), "a\n├─ b\n│  └─ c\n└─ d\n   └─ e");
        assert_eq!(Branch::of("alone").draw(), "alone");
    }
}
