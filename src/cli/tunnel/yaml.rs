//! YAML as cloudflared's reader takes it: merges resolved, tags refused.
//!
//! A merge (`<<: *defaults`) brings fields in from elsewhere, and a tag gives a value another meaning than it shows: with either, a rule
//! that leads around the gate can stand where nobody sees it.

use saphyr::{MarkedYaml, YamlData};
use saphyr_parser::{Event, Parser};

use super::Finding;

/// Merges within merges: deeper than this nobody writes.
const DEPTH: usize = 16;

/// A field and its value.
type Field<'n, 'y> = (&'n MarkedYaml<'y>, &'n MarkedYaml<'y>);

/// The fields of a mapping, those that are merged into it behind its own, each name once: what stands there itself wins over what is
/// merged, and of several the first (YAML's merge key, 2005). None for anything else.
pub(super) fn fields<'n, 'y>(node: &'n MarkedYaml<'y>) -> Vec<Field<'n, 'y>> {
    let mut found = Vec::new();
    gather(node, DEPTH, &mut found);
    found
}

fn gather<'n, 'y>(node: &'n MarkedYaml<'y>, depth: usize, found: &mut Vec<Field<'n, 'y>>) {
    let YamlData::Mapping(map) = &node.data else { return };
    for (key, value) in map.iter().filter(|(key, _)| !is_merge(key)) {
        let name = text_of(key);
        if !found.iter().any(|(known, _)| text_of(known) == name) {
            found.push((key, value));
        }
    }
    if depth == 0 {
        return;
    }
    for (_, merged) in map.iter().filter(|(key, _)| is_merge(key)) {
        match &merged.data {
            YamlData::Sequence(several) => several.iter().for_each(|one| gather(one, depth - 1, found)),
            _ => gather(merged, depth - 1, found),
        }
    }
}

/// The value of a field, a merged one included.
pub(super) fn get<'n, 'y>(node: &'n MarkedYaml<'y>, name: &str) -> Option<&'n MarkedYaml<'y>> {
    fields(node).into_iter().find(|(key, _)| text_of(key) == name).map(|(_, value)| value)
}

/// Quoted, it is no merge to every reader; to some it is, so it counts as one.
fn is_merge(key: &MarkedYaml<'_>) -> bool {
    text_of(key) == "<<"
}

/// A scalar as text; empty for anything else.
pub(super) fn text_of(node: &MarkedYaml<'_>) -> String {
    match &node.data {
        YamlData::Value(saphyr::Scalar::String(text)) | YamlData::Representation(text, _, _) => {
            text.to_string()
        }
        YamlData::Value(saphyr::Scalar::Boolean(truth)) => truth.to_string(),
        YamlData::Value(saphyr::Scalar::Integer(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// As YAML 1.1 has it, too, which cloudflared's reader knows.
pub(super) fn is_true(node: &MarkedYaml<'_>) -> bool {
    ["true", "yes", "on", "y"].contains(&text_of(node).to_ascii_lowercase().as_str())
}

/// Each tag, and each merge of what is no mapping.
pub(super) fn refused(text: &str, document: &MarkedYaml<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    // The nodes do not show every tag; the parser's events do.
    for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
        let (Event::Scalar(.., Some(tag))
        | Event::SequenceStart(_, Some(tag))
        | Event::MappingStart(_, Some(tag))) = event
        else {
            continue;
        };
        let shown = match tag.handle.as_str() {
            "tag:yaml.org,2002:" => format!("!!{}", tag.suffix),
            handle => format!("{handle}{}", tag.suffix),
        };
        let tag: String = shown.chars().filter(char::is_ascii_graphic).take(40).collect();
        findings.push(Finding {
            line: span.start.line(),
            what: format!("the tag `{tag}` gives a value another meaning than it shows"),
            fix: "take the tag out; quote the value where it must be text",
        });
    }
    merges(document, DEPTH, &mut findings);
    findings
}

fn merges(node: &MarkedYaml<'_>, depth: usize, findings: &mut Vec<Finding>) {
    let is_mapping = |node: &MarkedYaml<'_>| matches!(node.data, YamlData::Mapping(_));
    let Some(depth) = depth.checked_sub(1) else { return };
    match &node.data {
        YamlData::Mapping(map) => {
            for (key, value) in map {
                let good = match &value.data {
                    YamlData::Sequence(several) => several.iter().all(is_mapping),
                    _ => is_mapping(value),
                };
                if is_merge(key) && !good {
                    findings.push(Finding {
                        line: key.span.start.line(),
                        what: "`<<` merges something that is not a mapping".into(),
                        fix: "name an anchor of a mapping (`<<: *name`), or a list of them",
                    });
                }
                merges(value, depth, findings);
            }
        }
        YamlData::Sequence(list) => list.iter().for_each(|one| merges(one, depth, findings)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::lines;

    const END: &str = "  - service: http_status:404\n";

    #[test]
    fn what_a_merge_brings_in_is_seen() {
        for (head, line) in [
            // An anchor at the top, a rule that is nothing but a merge.
            ("x: &a\n  service: http://localhost:11434\ningress:\n  - hostname: h\n    <<: *a\n", 2),
            // In a list: the first that has the field wins.
            (
                "x: &a {path: /x}\ny: &b\n  service: http://localhost:11434\ningress:\n  - hostname: h\n    <<: [*a, *b]\n",
                3,
            ),
            // A merge within a merge.
            (
                "x: &a\n  service: http://localhost:11434\ny: &b {<<: *a}\ningress:\n  - hostname: h\n    <<: *b\n",
                2,
            ),
            // Written where it stands.
            ("ingress:\n  - hostname: h\n    <<: {service: 'http://localhost:11434'}\n", 3),
            ("ingress:\n  - hostname: h\n    \"<<\": {service: 'http://localhost:11434'}\n", 3),
            // Options of a rule, and of all.
            (
                "x: &a {bastionMode: true}\ningress:\n  - hostname: h\n    service: http://localhost:8000\n    originRequest:\n      <<: *a\n",
                1,
            ),
            ("x: &a\n  originRequest: {bastionMode: true}\n<<: *a\ningress:\n", 2),
        ] {
            let text = format!("{head}{END}");
            let found = lines(&text);
            assert_eq!(found.len(), 1, "{text}{found:?}");
            assert_eq!(found[0].0, line, "{text}{found:?}");
        }
        // Rules and all, from an anchor.
        let text =
            format!("x: &a\n  ingress:\n  - hostname: h\n    service: http://localhost:11434\n{END}<<: *a\n");
        assert_eq!(lines(&text).len(), 1, "{text}");
    }

    #[test]
    fn what_stands_there_itself_wins() {
        let gate = "    service: http://localhost:8000\n";
        for (before, after) in [(gate, ""), ("", gate)] {
            let text = format!(
                "x: &a {{service: 'http://localhost:11434'}}\ningress:\n  - hostname: h\n{before}    <<: *a\n{after}{END}"
            );
            assert_eq!(lines(&text), [], "{text}");
        }
        let first = format!(
            "x: &a {{service: 'http://localhost:8000'}}\ny: &b {{service: 'http://localhost:11434'}}\ningress:\n  - hostname: h\n    <<: [*a, *b]\n{END}"
        );
        assert_eq!(lines(&first), []);
    }

    #[test]
    fn tags_and_odd_merges_are_refused_by_line() {
        for (text, line, words) in [
            (
                format!(
                    "ingress:\n  - service: !!binary aHR0cDovL2xvY2FsaG9zdDoxMTQzNA==\n    hostname: h\n{END}"
                ),
                2,
                "binary",
            ),
            (format!("tunnel: !custom x\ningress:\n{END}"), 1, "custom"),
            (format!("x: !!str y\ningress:\n{END}"), 1, "str"),
            (format!("ingress: !!seq\n{END}"), 1, "!!seq"),
            (format!("x: !!map {{a: b}}\ningress:\n{END}"), 1, "map"),
            (format!("!!str ingress:\n{END}"), 1, "str"),
            (
                format!(
                    "x: &a text\ningress:\n  - hostname: h\n    service: http://localhost:8000\n    <<: *a\n{END}"
                ),
                5,
                "is not a mapping",
            ),
        ] {
            let found = lines(&text);
            assert!(found.iter().any(|(_, what)| what.contains(words)), "{text}{found:?}");
            assert!(found.iter().any(|(at, _)| *at == line), "{text}{found:?}");
        }
    }
}
