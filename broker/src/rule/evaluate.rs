//! The evaluator: steps are taken before the work is done, so the budget bounds time and memory.

use std::cmp::Ordering;

use super::budget::{Budget, Stop};
use super::expression::{Function, Loop, Node, Operator, Question};
use super::value::{Blob, List, Map, Text, Val, double, equal, numbers, whole};
use super::{Expression, MAX_LOOPS, Source};

impl Expression {
    /// Whether a record meets it.
    pub(super) fn is_met(
        &self,
        key: Option<&[u8]>,
        value: Source<'_>,
        budget: &mut Budget,
    ) -> Result<bool, Stop> {
        let mut frame = Frame {
            nodes: &self.nodes,
            key,
            value,
            items: [const { Val::Null }; MAX_LOOPS],
            depth: 0,
        };
        truth(&frame.eval(self.root, budget)?)
    }
}

/// One evaluation. Recursion is bounded by the depth of the expression.
struct Frame<'a> {
    nodes: &'a [Node],
    key: Option<&'a [u8]>,
    value: Source<'a>,
    /// Items of the loops around, the outermost first.
    items: [Val<'a>; MAX_LOOPS],
    depth: usize,
}

type Outcome<'a> = Result<Val<'a>, Stop>;

impl<'a> Frame<'a> {
    fn eval(&mut self, at: usize, budget: &mut Budget) -> Outcome<'a> {
        budget.spend(1)?;
        let nodes = self.nodes;
        Ok(match &nodes[at] {
            Node::Null => Val::Null,
            Node::Bool(boolean) => Val::Bool(*boolean),
            Node::Int(number) => Val::Int(*number),
            Node::Uint(number) => Val::Uint(*number),
            Node::Double(number) => Val::Double(*number),
            Node::Text(text) => Val::Text(Text::There(text)),
            Node::Bytes(bytes) => Val::Bytes(Blob::There(bytes)),
            Node::Value => self.value.into(),
            Node::Key => self.key(budget)?,
            Node::Item(at) => self.items[*at].clone(),
            Node::Field { of, name } => match self.eval(*of, budget)? {
                Val::Map(map) => map.field(name, budget)?.ok_or_else(|| no_field(name))?,
                other => return Err(no_field_in(name, &other)),
            },
            Node::HasField { of, name } => match self.eval(*of, budget)? {
                Val::Map(map) => Val::Bool(map.field(name, budget)?.is_some()),
                other => return Err(no_field_in(name, &other)),
            },
            Node::Index(of, at) => {
                let (of, at) = (self.eval(*of, budget)?, self.eval(*at, budget)?);
                index(&of, &at, budget)?
            }
            Node::Not(of) => Val::Bool(!truth(&self.eval(*of, budget)?)?),
            Node::Negative(of) => match self.eval(*of, budget)? {
                Val::Int(number) => Val::Int(number.checked_neg().ok_or_else(overflow)?),
                Val::Double(number) => Val::Double(-number),
                other => return Err(Stop::fault(format!("-{} has no meaning", other.word()))),
            },
            Node::And(a, b) => self.either(*a, *b, false, budget)?,
            Node::Or(a, b) => self.either(*a, *b, true, budget)?,
            Node::If(condition, a, b) => match truth(&self.eval(*condition, budget)?)? {
                true => self.eval(*a, budget)?,
                false => self.eval(*b, budget)?,
            },
            Node::Binary(operator, a, b) => {
                let (a, b) = (self.eval(*a, budget)?, self.eval(*b, budget)?);
                binary(*operator, a, b, budget)?
            }
            Node::List(items) => {
                let made = items.iter().map(|item| self.eval(*item, budget));
                Val::List(List::Made(made.collect::<Result<_, _>>()?))
            }
            Node::Map(members) => {
                let mut made: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let key = self.eval(*key, budget)?;
                    if !matches!(key, Val::Text(_) | Val::Int(_) | Val::Uint(_) | Val::Bool(_)) {
                        return Err(Stop::fault(format!("a {} cannot be a key", key.word())));
                    }
                    for (other, _) in &made {
                        if equal(other, &key, budget)? {
                            return Err(Stop::fault("a key occurs twice"));
                        }
                    }
                    made.push((key, self.eval(*value, budget)?));
                }
                Val::Map(Map::Made(made.into()))
            }
            Node::Call(function, of) => {
                let of = self.eval(*of, budget)?;
                call(*function, of, budget)?
            }
            Node::Texts(question, of, with) => {
                let (of, with) = (self.eval(*of, budget)?, self.eval(*with, budget)?);
                let (Val::Text(of), Val::Text(with)) = (&of, &with) else {
                    return Err(Stop::fault(format!(
                        "a {} cannot be searched for a {}",
                        of.word(),
                        with.word()
                    )));
                };
                budget.spend_bytes(of.len() + with.len())?;
                Val::Bool(match question {
                    Question::Contains => of.contains(&**with),
                    Question::StartsWith => of.starts_with(&**with),
                    Question::EndsWith => of.ends_with(&**with),
                })
            }
            Node::Matches { of, pattern, weight } => match self.eval(*of, budget)? {
                Val::Text(text) => {
                    budget.spend((1 + text.len() / 8).saturating_mul(*weight))?;
                    Val::Bool(pattern.is_match(&text))
                }
                other => {
                    return Err(Stop::fault(format!("a {} matches no pattern", other.word())));
                }
            },
            Node::Loop { kind, over, body, filter } => {
                self.each(*kind, *over, *body, *filter, budget)?
            }
        })
    }

    /// `&&` and `||`: what one side decides holds, even if the other side has no value.
    fn either(&mut self, a: usize, b: usize, decides: bool, budget: &mut Budget) -> Outcome<'a> {
        let first = match self.eval(a, budget).and_then(|a| truth(&a)) {
            Ok(first) if first == decides => return Ok(Val::Bool(decides)),
            Err(Stop::OverBudget) => return Err(Stop::OverBudget),
            other => other,
        };
        match truth(&self.eval(b, budget)?)? {
            second if second == decides => Ok(Val::Bool(decides)),
            _ => first.map(|_| Val::Bool(!decides)),
        }
    }

    fn each(
        &mut self,
        kind: Loop,
        over: usize,
        body: usize,
        filter: Option<usize>,
        budget: &mut Budget,
    ) -> Outcome<'a> {
        let items = match self.eval(over, budget)? {
            Val::List(list) => list,
            Val::Map(map) => {
                budget.spend(map.len())?;
                map.keys()
            }
            other => return Err(Stop::fault(format!("a {} has no items", other.word()))),
        };
        let place = self.depth;
        let (mut made, mut found, mut fault) = (Vec::new(), 0_usize, None);
        self.depth += 1;
        for index in 0..items.len() {
            budget.spend(1)?;
            let Some(item) = items.at(index) else { break };
            self.items[place] = item;
            match kind {
                Loop::Collect => {
                    if let Some(filter) = filter
                        && !truth(&self.eval(filter, budget)?)?
                    {
                        continue;
                    }
                    made.push(self.eval(body, budget)?);
                }
                Loop::One => found += usize::from(truth(&self.eval(body, budget)?)?),
                Loop::All | Loop::Exists => {
                    match self.eval(body, budget).and_then(|met| truth(&met)) {
                        Ok(met) if met == (kind == Loop::Exists) => {
                            found = 1;
                            break;
                        }
                        Ok(_) => {}
                        Err(Stop::OverBudget) => return Err(Stop::OverBudget),
                        Err(stop) => fault = Some(stop),
                    }
                }
            }
        }
        self.depth = place;
        self.items[place] = Val::Null;
        match (kind, fault) {
            (Loop::Collect, _) => Ok(Val::List(List::Made(made.into()))),
            (Loop::One, _) => Ok(Val::Bool(found == 1)),
            (_, Some(stop)) if found == 0 => Err(stop),
            (Loop::Exists, _) => Ok(Val::Bool(found == 1)),
            (Loop::All, _) => Ok(Val::Bool(found == 0)),
        }
    }

    /// A text where the key is one, else bytes.
    fn key(&self, budget: &mut Budget) -> Outcome<'a> {
        let Some(key) = self.key else { return Ok(Val::Null) };
        budget.spend_bytes(key.len())?;
        Ok(match std::str::from_utf8(key) {
            Ok(text) => Val::Text(Text::There(text)),
            Err(_) => Val::Bytes(Blob::There(key)),
        })
    }
}

fn truth(value: &Val<'_>) -> Result<bool, Stop> {
    match value {
        Val::Bool(boolean) => Ok(*boolean),
        other => Err(Stop::fault(format!("a {} is neither true nor false", other.word()))),
    }
}

fn no_field(name: &str) -> Stop {
    Stop::fault(format!("there is no field `{name}`"))
}

fn no_field_in(name: &str, value: &Val<'_>) -> Stop {
    Stop::fault(format!("a {} has no field `{name}`", value.word()))
}

fn overflow() -> Stop {
    Stop::fault("a number does not fit into 64 bits")
}

fn index<'a>(of: &Val<'a>, at: &Val<'a>, budget: &mut Budget) -> Outcome<'a> {
    match (of, whole(at)) {
        (Val::List(list), Some(at)) => {
            let item = usize::try_from(at).ok().and_then(|at| list.at(at));
            item.ok_or_else(|| Stop::fault(format!("there is no item {at}")))
        }
        (Val::Map(map), _) => {
            map.member(at, budget)?.ok_or_else(|| Stop::fault("there is no such member"))
        }
        _ => Err(Stop::fault(format!("a {} has no item for a {}", of.word(), at.word()))),
    }
}

fn binary<'a>(operator: Operator, a: Val<'a>, b: Val<'a>, budget: &mut Budget) -> Outcome<'a> {
    let ordered = |wanted: fn(Ordering) -> bool, budget: &mut Budget| {
        let order = match (&a, &b) {
            (Val::Text(a), Val::Text(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                Some((**a).cmp(&**b))
            }
            (Val::Bytes(a), Val::Bytes(b)) => {
                budget.spend_bytes(a.len().min(b.len()))?;
                Some((**a).cmp(&**b))
            }
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (a, b) if double(a).is_some() && double(b).is_some() => numbers(a, b),
            (a, b) => return Err(no_meaning(a, "compared with", b)),
        };
        // NaN is neither less nor greater.
        Ok(Val::Bool(order.is_some_and(wanted)))
    };
    match operator {
        Operator::Equal => Ok(Val::Bool(equal(&a, &b, budget)?)),
        Operator::NotEqual => Ok(Val::Bool(!equal(&a, &b, budget)?)),
        Operator::Less => ordered(Ordering::is_lt, budget),
        Operator::LessOrEqual => ordered(Ordering::is_le, budget),
        Operator::Greater => ordered(Ordering::is_gt, budget),
        Operator::GreaterOrEqual => ordered(Ordering::is_ge, budget),
        Operator::In => match &b {
            Val::List(list) => {
                for index in 0..list.len() {
                    if list.at(index).is_some_and(|item| {
                        // Too many steps end the evaluation at the next one.
                        equal(&a, &item, budget).unwrap_or(false)
                    }) {
                        return Ok(Val::Bool(true));
                    }
                    budget.spend(1)?;
                }
                Ok(Val::Bool(false))
            }
            Val::Map(map) => Ok(Val::Bool(map.member(&a, budget)?.is_some())),
            other => Err(no_meaning(&a, "looked for in", other)),
        },
        Operator::Add => match (&a, &b) {
            (Val::Text(a), Val::Text(b)) => {
                budget.spend_bytes(a.len() + b.len())?;
                Ok(Val::Text(Text::Made([&**a, &**b].concat().into())))
            }
            (Val::Bytes(a), Val::Bytes(b)) => {
                budget.spend_bytes(a.len() + b.len())?;
                Ok(Val::Bytes(Blob::Made([&**a, &**b].concat().into())))
            }
            (Val::List(a), Val::List(b)) => {
                budget.spend(a.len() + b.len())?;
                let items = |list: &List<'a>| {
                    let list = list.clone();
                    (0..list.len()).filter_map(move |index| list.at(index))
                };
                Ok(Val::List(List::Made(items(a).chain(items(b)).collect())))
            }
            _ => number(operator, &a, &b),
        },
        _ => number(operator, &a, &b),
    }
}

fn number<'a>(operator: Operator, a: &Val<'a>, b: &Val<'a>) -> Outcome<'a> {
    if let (Some(x), Some(y)) = (whole(a), whole(b)) {
        let result = match operator {
            Operator::Add => x.checked_add(y),
            Operator::Subtract => x.checked_sub(y),
            Operator::Multiply => x.checked_mul(y),
            Operator::Divide | Operator::Modulo if y == 0 => {
                return Err(Stop::fault("a division by zero"));
            }
            Operator::Divide => x.checked_div(y),
            _ => x.checked_rem(y),
        };
        let result = result.ok_or_else(overflow)?;
        return match (a, b) {
            (Val::Uint(_), Val::Uint(_)) => u64::try_from(result).map(Val::Uint),
            _ => i64::try_from(result).map(Val::Int),
        }
        .map_err(|_| overflow());
    }
    let (Some(x), Some(y)) = (double(a), double(b)) else {
        return Err(no_meaning(a, "calculated with", b));
    };
    Ok(Val::Double(match operator {
        Operator::Add => x + y,
        Operator::Subtract => x - y,
        Operator::Multiply => x * y,
        Operator::Divide => x / y,
        _ => return Err(Stop::fault("a remainder is of whole numbers only")),
    }))
}

fn no_meaning(a: &Val<'_>, what: &str, b: &Val<'_>) -> Stop {
    Stop::fault(format!("a {} cannot be {what} a {}", a.word(), b.word()))
}

fn call<'a>(function: Function, of: Val<'a>, budget: &mut Budget) -> Outcome<'a> {
    let unfit = |of: &Val<'_>, wanted: &str| {
        Stop::fault(format!("a {} cannot be made {wanted}", of.word()))
    };
    match function {
        Function::Size => {
            let size = match &of {
                Val::Text(text) => {
                    budget.spend_bytes(text.len())?;
                    text.chars().count()
                }
                Val::Bytes(bytes) => bytes.len(),
                Val::List(list) => list.len(),
                Val::Map(map) => map.len(),
                other => return Err(Stop::fault(format!("a {} has no size", other.word()))),
            };
            Ok(Val::Int(i64::try_from(size).map_err(|_| overflow())?))
        }
        Function::Int | Function::Uint => {
            let number: i128 = match &of {
                Val::Int(_) | Val::Uint(_) => whole(&of).unwrap_or_default(),
                Val::Double(number) if number.is_finite() && number.abs() < 2_f64.powi(65) => {
                    *number as i128
                }
                Val::Double(_) => return Err(overflow()),
                Val::Text(text) => {
                    budget.spend_bytes(text.len())?;
                    text.parse().map_err(|_| unfit(&of, "a number: it is not one"))?
                }
                other => return Err(unfit(other, "a number")),
            };
            match function {
                Function::Int => i64::try_from(number).map(Val::Int),
                _ => u64::try_from(number).map(Val::Uint),
            }
            .map_err(|_| overflow())
        }
        Function::Double => match &of {
            Val::Text(text) => {
                budget.spend_bytes(text.len())?;
                let number = text.parse().map(Val::Double);
                number.map_err(|_| unfit(&of, "a number: it is not one"))
            }
            other => double(other).map(Val::Double).ok_or_else(|| unfit(other, "a number")),
        },
        Function::Text => Ok(Val::Text(match of {
            Val::Text(text) => text,
            Val::Int(number) => Text::Made(number.to_string().into()),
            Val::Uint(number) => Text::Made(number.to_string().into()),
            Val::Double(number) => Text::Made(number.to_string().into()),
            Val::Bool(boolean) => Text::Made(boolean.to_string().into()),
            other => return Err(unfit(&other, "a string")),
        })),
    }
}
