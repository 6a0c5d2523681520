//! The order of products: inputs before what is made of them, as far as there is one.

use std::collections::BTreeMap;

use super::document::Product;

/// An input that leads back to what it is an input of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeadingBack {
    /// The product whose input it is.
    pub(super) from: String,
    /// The input.
    pub(super) to: String,
    /// From the input to the product and back.
    pub(super) circle: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    OnTheWay,
    Done,
}

/// Products in the order in which they can be created, and the inputs that must wait until all are
/// there.
pub(super) fn of(products: &[Product]) -> (Vec<&Product>, Vec<LeadingBack>) {
    let by_name: BTreeMap<&str, &Product> =
        products.iter().map(|product| (&*product.name, product)).collect();
    let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
    let (mut sorted, mut back) = (Vec::new(), Vec::new());
    for &start in by_name.values() {
        if seen.contains_key(&*start.name) {
            continue;
        }
        // Depth first without recursion: a chain of inputs may be long.
        let mut way: Vec<(&Product, usize)> = vec![(start, 0)];
        seen.insert(&start.name, Seen::OnTheWay);
        while let Some((product, next)) = way.last_mut() {
            let Some(input) = product.inputs.get(*next) else {
                seen.insert(&product.name, Seen::Done);
                sorted.push(*product);
                way.pop();
                continue;
            };
            *next += 1;
            let from = product.name.clone();
            let Some(&below) = by_name.get(&**input) else { continue };
            match seen.get(&*below.name) {
                Some(Seen::Done) => {}
                Some(Seen::OnTheWay) => {
                    let names = way.iter().map(|(product, _)| product.name.clone());
                    let circle = names.skip_while(|name| *name != below.name);
                    let circle = circle.chain([below.name.clone()]).collect();
                    back.push(LeadingBack { from, to: below.name.clone(), circle });
                }
                None => {
                    seen.insert(&below.name, Seen::OnTheWay);
                    way.push((below, 0));
                }
            }
        }
    }
    (sorted, back)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product(name: &str, inputs: &[&str]) -> Product {
        let inputs = inputs.iter().map(|input| (*input).to_owned()).collect();
        Product { name: name.into(), inputs, ..Product::default() }
    }

    fn names(products: &[Product]) -> Vec<&str> {
        of(products).0.into_iter().map(|product| &*product.name).collect()
    }

    #[test]
    fn inputs_come_before_what_is_made_of_them() {
        let products =
            [product("a.a", &["c.c", "b.b"]), product("b.b", &["c.c"]), product("c.c", &["x.x"])];
        assert_eq!(names(&products), ["c.c", "b.b", "a.a"]);
        assert!(of(&products).1.is_empty());
        let chain: Vec<_> =
            (0..20_000).map(|n| product(&format!("a.{n}"), &[&format!("a.{}", n + 1)])).collect();
        assert_eq!(names(&chain)[0], "a.19999");
    }

    #[test]
    fn a_circle_is_named_and_the_input_that_closes_it_waits() {
        let products = [
            product("a.a", &["b.b"]),
            product("b.b", &["c.c"]),
            product("c.c", &["a.a"]),
            product("d.d", &["a.a"]),
        ];
        let (sorted, back) = of(&products);
        assert_eq!(sorted.len(), 4);
        assert_eq!(back.len(), 1);
        assert_eq!((&*back[0].from, &*back[0].to), ("c.c", "a.a"));
        assert_eq!(back[0].circle, ["a.a", "b.b", "c.c", "a.a"]);
    }
}
