//! A graph as a tree, for a person.

use std::collections::BTreeSet;

use super::graph::{Edge, Graph, Node};
use crate::{exit::Result, output::Out, words};

/// Which way a tree grows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Graph {
    /// Where the data comes from, then where it goes.
    pub(super) fn show_tree(&self, out: &mut Out) -> Result<()> {
        for begin in self.begin() {
            out.line(begin.label())?;
            let mut is_alone = true;
            for (way, title) in [(Way::Up, "from"), (Way::Down, "to")] {
                if self.neighbours(begin, way).next().is_some() {
                    is_alone = false;
                    out.line(format_args!("  {title}"))?;
                    let mut above = BTreeSet::from([begin.id.as_str()]);
                    self.show_below(begin, way, 2, &mut above, out)?;
                }
            }
            if is_alone {
                out.line("  nobody was seen to append to it or to read it")?;
            }
        }
        Ok(())
    }

    fn show_below<'a>(
        &'a self,
        node: &'a Node,
        way: Way,
        depth: usize,
        above: &mut BTreeSet<&'a str>,
        out: &mut Out,
    ) -> Result<()> {
        for (edge, other) in self.neighbours(node, way) {
            let again = if above.contains(other.id.as_str()) { " (see above)" } else { "" };
            let space = "  ".repeat(depth);
            out.line(format_args!("{space}{}{again}{}", said(edge, other), traffic(edge)))?;
            for copy in &edge.copies {
                out.line(format_args!("{space}  {}", copy.sentence()))?;
            }
            if again.is_empty() {
                above.insert(&other.id);
                self.show_below(other, way, depth + 1, above, out)?;
                above.remove(other.id.as_str());
            }
        }
        Ok(())
    }

    fn neighbours<'a>(
        &'a self,
        node: &'a Node,
        way: Way,
    ) -> impl Iterator<Item = (&'a Edge, &'a Node)> {
        self.edges.iter().filter_map(move |edge| {
            let (here, there) = match way {
                Way::Up => (&edge.to, &edge.from),
                Way::Down => (&edge.from, &edge.to),
            };
            (*here == node.id).then(|| Some((edge, self.node(there)?))).flatten()
        })
    }
}

fn said(edge: &Edge, other: &Node) -> String {
    match edge.kind.as_str() {
        "input" if edge.observed => format!("{} (declared)", other.label()),
        "input" => format!("{} (declared, never observed)", other.label()),
        _ => other.label(),
    }
}

fn traffic(edge: &Edge) -> String {
    match edge.kind.as_str() {
        "input" => String::new(),
        kind => format!(
            "  {} {}, last {}",
            words::counted(edge.records, "record"),
            if kind == "append" { "appended" } else { "read" },
            words::when(edge.last_time)
        ),
    }
}
