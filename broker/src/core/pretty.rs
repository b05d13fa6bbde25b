//! Terms of Erlang over several lines, as `~p` prints those that are too long for one.

/// How long a line may be.
const LINE: usize = 80;
/// How long a line may be without its indentation.
const CHARACTERS: usize = 60;
/// How far the elements of a tuple stand to the right of its bracket.
const INDENT: usize = 4;

/// A term.
#[derive(Debug)]
pub(crate) enum Pretty {
    /// An atom or a binary, printed.
    Atomic(String),
    /// A tuple that begins with an atom of at least three letters.
    Tuple(String, Vec<Pretty>),
}

/// Where the next character comes.
#[derive(Clone, Copy)]
struct Place {
    column: usize,
    /// The characters of the line behind its indentation.
    width: usize,
    /// How many brackets follow at the end.
    brackets: usize,
}

impl Pretty {
    /// Prints the term behind a text of so many characters.
    pub(crate) fn behind(&self, text: usize) -> String {
        let mut out = String::new();
        self.print(Place { column: text + 1, width: 0, brackets: 0 }, &mut out);
        out
    }

    fn in_one_line(&self) -> String {
        match self {
            Self::Atomic(text) => text.clone(),
            Self::Tuple(tag, elements) => {
                let elements: Vec<String> = elements.iter().map(Self::in_one_line).collect();
                format!("{{{tag},{}}}", elements.join(","))
            }
        }
    }

    fn print(&self, place: Place, out: &mut String) {
        let line = self.in_one_line();
        let len = line.chars().count();
        let fits =
            place.column + len + place.brackets < LINE && place.width + len + place.brackets <= CHARACTERS;
        match self {
            Self::Tuple(tag, elements) if !fits => {
                out.push('{');
                out.push_str(tag);
                Self::print_elements(tag.chars().count(), elements, place, out);
                out.push('}');
            }
            _ => out.push_str(&line),
        }
    }

    fn print_elements(tag: usize, elements: &[Self], place: Place, out: &mut String) {
        let left = place.column + INDENT;
        let (mut column, mut width) = (place.column + tag + 2, place.width + 1 + tag);
        for (at, element) in elements.iter().enumerate() {
            let is_last = at + 1 == elements.len();
            let brackets = if is_last { place.brackets + 1 } else { 0 };
            let len = element.in_one_line().chars().count();
            // A comma comes before it, and one behind it unless it is the last one.
            let taken = 1 + len + brackets + usize::from(!is_last);
            let fits = column + taken < LINE && width + taken <= CHARACTERS;
            out.push(',');
            if fits && matches!(element, Self::Atomic(_)) {
                out.push_str(&element.in_one_line());
                (column, width) = (column + 1 + len, width + 1 + len);
            } else {
                out.push('\n');
                out.push_str(&" ".repeat(left - 1));
                element.print(Place { column: left, width: 0, brackets }, out);
                (column, width) = (left + len, len);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Pretty;

    const BEFORE: usize = "failed to deliver message: ".len();

    fn not_found(vhost: &str, queue: &str) -> String {
        let binary = |text: &str| Pretty::Atomic(format!("<<\"{text}\">>"));
        let resource = vec![binary(vhost), Pretty::Atomic("queue".into()), binary(queue)];
        let term = Pretty::Tuple("not_found".into(), vec![Pretty::Tuple("resource".into(), resource)]);
        term.behind(BEFORE)
    }

    /// As a node of 4.3.6 has printed them.
    #[test]
    fn a_term_is_broken_where_a_node_breaks_it() {
        let indent = |count| format!("\n{}", " ".repeat(count));
        assert_eq!(not_found("/", "q"), r#"{not_found,{resource,<<"/">>,queue,<<"q">>}}"#);
        assert_eq!(
            not_found("core-3812-10", "q"),
            format!(r#"{{not_found,{}{{resource,<<"core-3812-10">>,queue,<<"q">>}}}}"#, indent(31))
        );
        assert_eq!(
            not_found("differential-19435-4", "q"),
            format!(
                r#"{{not_found,{}{{resource,<<"differential-19435-4">>,queue,{}<<"q">>}}}}"#,
                indent(31),
                indent(35)
            )
        );
    }
}
