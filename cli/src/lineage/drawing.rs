//! A graph for programs that draw.
//!
//! Products are boxes, applications are round; what is only declared is a dashed line, a copy says so
//! at its line.

use std::fmt::Write as _;

use super::graph::{Edge, Graph};
use crate::words;

impl Graph {
    /// For Graphviz.
    pub(super) fn dot(&self) -> String {
        let mut text = String::from("digraph lineage {\n  rankdir=LR;\n");
        for node in &self.nodes {
            let shape = if node.is_product() { "box" } else { "ellipse" };
            let root = if node.id == self.root { ", penwidth=2" } else { "" };
            let (id, label) = (dot_text(&node.id), dot_text(&node.label()));
            // Writing into a string cannot fail.
            let _ = writeln!(text, "  {id} [shape={shape}, label={label}{root}];");
        }
        for edge in &self.edges {
            let style = match edge.kind.as_str() {
                "input" => ", style=dashed",
                _ => "",
            };
            let (from, to) = (dot_text(&edge.from), dot_text(&edge.to));
            let label = dot_text(&edge_label(edge));
            let _ = writeln!(text, "  {from} -> {to} [label={label}{style}];");
        }
        text + "}"
    }

    /// For Markdown pages.
    pub(super) fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        let place = |id: &str| self.nodes.iter().position(|node| node.id == id);
        for (n, node) in self.nodes.iter().enumerate() {
            let label = mermaid_text(&node.label());
            let drawn =
                if node.is_product() { format!("[{label}]") } else { format!("([{label}])") };
            let _ = writeln!(text, "  n{n}{drawn}");
        }
        for edge in &self.edges {
            let (Some(from), Some(to)) = (place(&edge.from), place(&edge.to)) else { continue };
            let arrow = if edge.kind == "input" { "-.->" } else { "-->" };
            let label = mermaid_text(&edge_label(edge));
            let _ = writeln!(text, "  n{from} {arrow}|{label}| n{to}");
        }
        if let Some(root) = place(&self.root) {
            let _ = writeln!(text, "  style n{root} stroke-width:3px");
        }
        text.trim_end().to_owned()
    }
}

fn edge_label(edge: &Edge) -> String {
    match edge.kind.as_str() {
        "input" if edge.observed => "declared".to_owned(),
        "input" => "declared, never observed".to_owned(),
        _ => {
            let mut label = words::counted(edge.records, "record");
            if let Some(copy) = edge.copies.first() {
                let _ = write!(label, ", copy of {}", copy.source);
            }
            label
        }
    }
}

/// A quoted string of the DOT language.
fn dot_text(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A quoted string of Mermaid, in which `#…;` stands for a character.
fn mermaid_text(text: &str) -> String {
    format!("\"{}\"", text.replace('#', "#35;").replace('"', "#quot;"))
}

#[cfg(test)]
mod tests {
    use super::super::graph::Node;
    use super::*;

    #[test]
    fn names_cannot_break_out_of_a_drawing() {
        assert_eq!(dot_text(r#"a"]; evil [label="\"#), r#""a\"]; evil [label=\"\\""#);
        assert_eq!(mermaid_text("a\"] #quot;"), "\"a#quot;] #35;quot;\"");
    }

    #[test]
    fn a_product_is_a_box_and_a_declared_input_is_dashed() {
        let node = |id: &str, kind, name: &str| Node {
            id: id.into(),
            kind,
            name: name.into(),
            team: "t".into(),
            state: String::new(),
            classification: String::new(),
            shared: false,
            distance: 0,
            has_more: false,
        };
        let edge = |from: &str, to: &str, kind: &str| Edge {
            from: from.into(),
            to: to.into(),
            kind: kind.into(),
            provenance: String::new(),
            observed: false,
            records: 2,
            bytes: 0,
            first_time: None,
            last_time: None,
            versions: Vec::new(),
            copies: Vec::new(),
        };
        let graph = Graph {
            root: "a".into(),
            nodes: vec![
                node("a", "product", "o.a"),
                node("b", "product", "o.b"),
                node("x", "application", "job"),
            ],
            edges: vec![edge("x", "a", "append"), edge("b", "a", "input")],
        };
        assert_eq!(
            graph.mermaid(),
            "flowchart LR\n  n0[\"o.a\"]\n  n1[\"o.b\"]\n  n2([\"job (t)\"])\n  \
             n2 -->|\"2 records\"| n0\n  n1 -.->|\"declared, never observed\"| n0\n  \
             style n0 stroke-width:3px"
        );
        let dot = graph.dot();
        assert!(dot.contains(r#""x" -> "a" [label="2 records"];"#), "{dot}");
        assert!(dot.contains("style=dashed"), "{dot}");
    }
}
