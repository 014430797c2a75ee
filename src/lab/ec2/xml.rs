//! Writing EC2's XML: elements, text and `<item>` lists. Reading XML is nobody's need here.

/// An XML fragment being written.
#[derive(Debug, Default, Clone)]
pub struct Xml(String);

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
}

impl Xml {
    /// An empty fragment.
    pub fn new() -> Self {
        Xml::default()
    }

    /// `<name>text</name>`.
    pub fn text(&mut self, name: &str, text: impl std::fmt::Display) -> &mut Self {
        self.0.push_str(&format!("<{name}>"));
        escape(&text.to_string(), &mut self.0);
        self.0.push_str(&format!("</{name}>"));
        self
    }

    /// `<name>text</name>`, or nothing when there is no value: unknown is left out, never guessed.
    pub fn maybe(&mut self, name: &str, text: Option<impl std::fmt::Display>) -> &mut Self {
        if let Some(text) = text {
            self.text(name, text);
        }
        self
    }

    /// `<name>…</name>` around what `inside` writes.
    pub fn element(&mut self, name: &str, inside: impl FnOnce(&mut Xml)) -> &mut Self {
        self.0.push_str(&format!("<{name}>"));
        inside(self);
        self.0.push_str(&format!("</{name}>"));
        self
    }

    /// `<name><item>…</item>…</name>`.
    pub fn list<T>(&mut self, name: &str, items: impl IntoIterator<Item = T>, mut each: impl FnMut(&mut Xml, T)) -> &mut Self {
        self.element(name, |xml| {
            for item in items {
                xml.element("item", |xml| each(xml, item));
            }
        })
    }

    /// `<name><item>text</item>…</name>`.
    pub fn texts<T: std::fmt::Display>(&mut self, name: &str, items: impl IntoIterator<Item = T>) -> &mut Self {
        self.element(name, |xml| {
            for item in items {
                xml.text("item", item);
            }
        })
    }

    /// The fragment as text.
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A whole answer to `action`.
pub fn answer(action: &str, request_id: &str, inner: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><requestId>{request_id}</requestId>{inner}</{action}Response>"
    )
}

/// A whole error answer.
pub fn error(code: &str, message: &str, request_id: &str) -> String {
    let mut xml = Xml::new();
    xml.element("Response", |xml| {
        xml.element("Errors", |xml| {
            xml.element("Error", |xml| {
                xml.text("Code", code).text("Message", message);
            });
        });
        xml.text("RequestID", request_id);
    });
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}", xml.into_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_unknown_is_left_out() {
        let mut xml = Xml::new();
        xml.texts("set", ["a<b", "c&d"]).maybe("none", None::<&str>);
        assert_eq!(xml.into_string(), "<set><item>a&lt;b</item><item>c&amp;d</item></set>");
    }
}
