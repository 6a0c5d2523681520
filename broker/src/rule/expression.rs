//! An expression that was parsed, checked, and made ready to be evaluated.

use cel::common::ast::{
    ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, MapExpr, operators,
};
use cel::parser::PrattParser;
use regex::{Regex, RegexBuilder};

use super::{MAX_BRACKETS, MAX_EXPRESSION_BYTES, MAX_LOOPS, MAX_NODE_DEPTH, MAX_NODES};

/// Stack of the thread that parses. The parser goes at most one level deeper for each byte of the
/// text, and takes less than 8 KiB for a level even where nothing is optimised.
const PARSER_STACK: usize = 32 << 20;
/// Deepest recursion of the parser at brackets; unary operators are bounded by the text alone.
const PARSER_DEPTH: u16 = 64;
/// Longest pattern.
const MAX_PATTERN_BYTES: usize = 256;
/// Largest compiled pattern.
const MAX_COMPILED_BYTES: usize = 256 << 10;
/// What a compiled pattern of weight 1 takes.
const WEIGHT_BYTES: usize = 8 << 10;

/// An expression that is true or not, for a record.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(super) nodes: Box<[Node]>,
    pub(super) root: usize,
    /// Paths below `value` that it names, each as the names of fields.
    fields: Vec<Vec<String>>,
}

/// One node; nodes name one another by their place, and a node stands behind those it names.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
    Value,
    Key,
    /// The item of a loop around it, counted from the outermost.
    Item(usize),
    Field {
        of: usize,
        name: Box<str>,
    },
    HasField {
        of: usize,
        name: Box<str>,
    },
    Index(usize, usize),
    Not(usize),
    Negative(usize),
    And(usize, usize),
    Or(usize, usize),
    If(usize, usize, usize),
    Binary(Operator, usize, usize),
    List(Box<[usize]>),
    Map(Box<[(usize, usize)]>),
    Call(Function, usize),
    Texts(Question, usize, usize),
    Matches {
        of: usize,
        pattern: Box<Regex>,
        weight: usize,
    },
    Loop {
        kind: Loop,
        over: usize,
        body: usize,
        filter: Option<usize>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    Int,
    Uint,
    Double,
    Text,
}

/// What is asked of two texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Contains,
    StartsWith,
    EndsWith,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loop {
    All,
    Exists,
    One,
    /// `map` and `filter`.
    Collect,
}

/// What can be called, for the error message.
const CALLS: &str = "size, contains, startsWith, endsWith, matches, int, uint, double, string, has, \
                     all, exists, exists_one, map and filter";

impl Expression {
    /// From its text.
    ///
    /// # Errors
    /// A sentence for a person: what is wrong, and where that can be told.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        check_text(text)?;
        let source = text.to_owned();
        let parser =
            std::thread::Builder::new().name("rule-parser".into()).stack_size(PARSER_STACK);
        let parser = parser.spawn(move || parse(&source));
        let parser =
            parser.map_err(|_| "there is no thread to parse it on; try again".to_owned())?;
        parser.join().unwrap_or_else(|_| Err("it cannot be parsed".to_owned()))
    }

    /// Paths below `value` that it names.
    pub(crate) fn fields(&self) -> &[Vec<String>] {
        &self.fields
    }
}

/// Looks at the text before anything follows it.
fn check_text(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(format!(
            "it has {} bytes, more than the {MAX_EXPRESSION_BYTES} allowed",
            text.len()
        ));
    }
    let mut depth = 0_usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(format!("its brackets are nested deeper than {MAX_BRACKETS}"));
        }
    }
    Ok(())
}

fn parse(text: &str) -> Result<Expression, String> {
    let parser = PrattParser::new()
        .max_recursion_depth(PARSER_DEPTH)
        .error_recovery_limit(1)
        .error_reporting_limit(1);
    let tree = parser.parse(text).map_err(|errors| match errors.errors.first() {
        Some(error) => {
            let what: String = error.msg.chars().take(200).collect();
            format!("line {}, column {}: {what}", error.pos.0, error.pos.1)
        }
        None => "it cannot be parsed".to_owned(),
    })?;
    let mut builder = Builder::default();
    let root = builder.node(&tree, 0)?;
    if let Some(word) = builder.nodes[root].never_bool() {
        return Err(format!("it is a {word}; a rule is true or false"));
    }
    builder.fields.sort();
    builder.fields.dedup();
    Ok(Expression { nodes: builder.nodes.into(), root, fields: builder.fields })
}

impl Node {
    /// The type of a node that cannot be true or false.
    fn never_bool(&self) -> Option<&'static str> {
        match self {
            Self::Null => Some("null"),
            Self::Int(_) | Self::Uint(_) | Self::Double(_) | Self::Negative(_) => Some("number"),
            Self::Text(_) => Some("string"),
            Self::Bytes(_) => Some("bytes"),
            Self::List(_) | Self::Loop { kind: Loop::Collect, .. } => Some("list"),
            Self::Map(_) => Some("map"),
            Self::Call(Function::Text, _) => Some("string"),
            Self::Call(..) => Some("number"),
            Self::Binary(
                Operator::Add
                | Operator::Subtract
                | Operator::Multiply
                | Operator::Divide
                | Operator::Modulo,
                ..,
            ) => Some("number, a string or a list"),
            _ => None,
        }
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    fields: Vec<Vec<String>>,
    /// Names of the items of the loops around.
    items: Vec<String>,
}

impl Builder {
    fn add(&mut self, node: Node) -> Result<usize, String> {
        if self.nodes.len() >= MAX_NODES {
            return Err(format!("it has more than {MAX_NODES} parts"));
        }
        self.nodes.push(node);
        Ok(self.nodes.len() - 1)
    }

    fn node(&mut self, tree: &IdedExpr, depth: usize) -> Result<usize, String> {
        if depth > MAX_NODE_DEPTH {
            return Err(format!("its parts are nested deeper than {MAX_NODE_DEPTH}"));
        }
        let depth = depth + 1;
        let node = match &tree.expr {
            Expr::Literal(literal) => literal_of(literal),
            Expr::Ident(name) => self.ident(name)?,
            Expr::Select(select) => {
                if let Some(path) = self.path(tree) {
                    self.fields.push(path);
                }
                let (of, name) = (self.node(&select.operand, depth)?, select.field.as_str().into());
                match select.test {
                    true => Node::HasField { of, name },
                    false => Node::Field { of, name },
                }
            }
            Expr::List(list) => {
                let items = list.elements.iter().map(|item| self.node(item, depth));
                Node::List(items.collect::<Result<_, _>>()?)
            }
            Expr::Map(map) => self.map(map, depth)?,
            Expr::Comprehension(each) => self.each(each, depth)?,
            Expr::Call(call) => {
                let args: Vec<&IdedExpr> =
                    call.target.as_deref().into_iter().chain(&call.args).collect();
                self.call(&call.func_name, call.target.is_some(), &args, depth)?
            }
            Expr::Struct(_) => return Err("messages cannot be made in a rule".to_owned()),
            Expr::Unspecified => return Err("a part is missing".to_owned()),
        };
        self.add(node)
    }

    fn ident(&self, name: &str) -> Result<Node, String> {
        // The innermost first: an item hides what is outside.
        if let Some(at) = self.items.iter().rposition(|item| item == name) {
            return Ok(Node::Item(at));
        }
        match name {
            "value" => Ok(Node::Value),
            "key" => Ok(Node::Key),
            _ => {
                let name: String = name.chars().take(60).collect();
                Err(format!("`{name}` is not known; a rule sees `value` and `key`"))
            }
        }
    }

    /// The names of `value.a.b`.
    fn path(&self, tree: &IdedExpr) -> Option<Vec<String>> {
        if self.items.iter().any(|item| item == "value") {
            return None;
        }
        let (mut at, mut names) = (tree, Vec::new());
        loop {
            match &at.expr {
                Expr::Select(select) => {
                    names.push(select.field.clone());
                    at = &select.operand;
                }
                Expr::Ident(name) if name == "value" => break,
                _ => return None,
            }
        }
        names.reverse();
        Some(names)
    }

    fn map(&mut self, map: &MapExpr, depth: usize) -> Result<Node, String> {
        let mut members = Vec::with_capacity(map.entries.len());
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else {
                return Err("messages cannot be made in a rule".to_owned());
            };
            members.push((self.node(&entry.key, depth)?, self.node(&entry.value, depth)?));
        }
        Ok(Node::Map(members.into()))
    }

    /// What the macros of CEL make of `all`, `exists`, `exists_one`, `map` and `filter`, taken for
    /// what was written.
    fn each(&mut self, each: &ComprehensionExpr, depth: usize) -> Result<Node, String> {
        if self.items.len() >= MAX_LOOPS {
            return Err(format!("all, exists, map and filter are nested deeper than {MAX_LOOPS}"));
        }
        let unknown = || "it has a loop of a kind that is not known".to_owned();
        let args = |tree: &'_ IdedExpr, name: &str| match &tree.expr {
            Expr::Call(call) if call.func_name == name && call.target.is_none() => {
                Some(call.args.clone())
            }
            _ => None,
        };
        let step = &each.loop_step;
        let (kind, filter, body) = match &each.accu_init.expr {
            Expr::Literal(LiteralValue::Boolean(boolean)) => {
                let (kind, name) = match **boolean {
                    true => (Loop::All, operators::LOGICAL_AND),
                    false => (Loop::Exists, operators::LOGICAL_OR),
                };
                let args = args(step, name).ok_or_else(unknown)?;
                (kind, None, args.into_iter().nth(1).ok_or_else(unknown)?)
            }
            Expr::Literal(LiteralValue::Int(_)) => {
                let args = args(step, operators::CONDITIONAL).ok_or_else(unknown)?;
                (Loop::One, None, args.into_iter().next().ok_or_else(unknown)?)
            }
            Expr::List(_) => {
                let (filter, step) = match args(step, operators::CONDITIONAL) {
                    Some(args) => {
                        let mut args = args.into_iter();
                        (args.next(), args.next().ok_or_else(unknown)?)
                    }
                    None => (None, step.clone()),
                };
                let args = args(&step, operators::ADD).ok_or_else(unknown)?;
                let item = args.into_iter().nth(1).ok_or_else(unknown)?;
                let Expr::List(item) = item.expr else { return Err(unknown()) };
                (Loop::Collect, filter, item.elements.into_iter().next().ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        let over = self.node(&each.iter_range, depth)?;
        self.items.push(each.iter_var.clone());
        let filter = filter.map(|filter| self.node(&filter, depth)).transpose()?;
        let body = self.node(&body, depth)?;
        self.items.pop();
        Ok(Node::Loop { kind, over, body, filter })
    }

    fn call(
        &mut self,
        name: &str,
        is_member: bool,
        args: &[&IdedExpr],
        depth: usize,
    ) -> Result<Node, String> {
        if name == "matches"
            && let [of, pattern] = args
        {
            return self.matches(of, pattern, depth);
        }
        let mut places = Vec::with_capacity(args.len());
        // The operands of `a + b + c + …` lie at the left, one in the other.
        for arg in args {
            places.push(self.node(arg, depth)?);
        }
        let binary = |operator| match places[..] {
            [a, b] => Some(Node::Binary(operator, a, b)),
            _ => None,
        };
        let function = |function| match places[..] {
            [of] => Some(Node::Call(function, of)),
            _ => None,
        };
        let question = |question| match places[..] {
            [of, with] if is_member => Some(Node::Texts(question, of, with)),
            _ => None,
        };
        let node = match (name, &places[..]) {
            (operators::LOGICAL_NOT, [of]) => Some(Node::Not(*of)),
            (operators::NEGATE, [of]) => Some(Node::Negative(*of)),
            (operators::LOGICAL_AND, [a, b]) => Some(Node::And(*a, *b)),
            (operators::LOGICAL_OR, [a, b]) => Some(Node::Or(*a, *b)),
            (operators::CONDITIONAL, [a, b, c]) => Some(Node::If(*a, *b, *c)),
            (operators::INDEX, [a, b]) => Some(Node::Index(*a, *b)),
            (operators::ADD, _) => binary(Operator::Add),
            (operators::SUBSTRACT, _) => binary(Operator::Subtract),
            (operators::MULTIPLY, _) => binary(Operator::Multiply),
            (operators::DIVIDE, _) => binary(Operator::Divide),
            (operators::MODULO, _) => binary(Operator::Modulo),
            (operators::EQUALS, _) => binary(Operator::Equal),
            (operators::NOT_EQUALS, _) => binary(Operator::NotEqual),
            (operators::LESS, _) => binary(Operator::Less),
            (operators::LESS_EQUALS, _) => binary(Operator::LessOrEqual),
            (operators::GREATER, _) => binary(Operator::Greater),
            (operators::GREATER_EQUALS, _) => binary(Operator::GreaterOrEqual),
            (operators::IN, _) => binary(Operator::In),
            ("size", _) => function(Function::Size),
            ("int", _) => function(Function::Int),
            ("uint", _) => function(Function::Uint),
            ("double", _) => function(Function::Double),
            ("string", _) => function(Function::Text),
            ("contains", _) => question(Question::Contains),
            ("startsWith", _) => question(Question::StartsWith),
            ("endsWith", _) => question(Question::EndsWith),
            _ => None,
        };
        node.ok_or_else(|| {
            let name: String = name.chars().take(60).collect();
            let count = places.len() - usize::from(is_member);
            format!("`{name}` with {count} arguments is not known; a rule can call {CALLS}")
        })
    }

    fn matches(&mut self, of: &IdedExpr, pattern: &IdedExpr, depth: usize) -> Result<Node, String> {
        let Expr::Literal(LiteralValue::String(pattern)) = &pattern.expr else {
            return Err("the pattern of `matches` must be a constant string".to_owned());
        };
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(format!("a pattern is longer than {MAX_PATTERN_BYTES} bytes"));
        }
        let (pattern, weight) = compile(pattern)?;
        Ok(Node::Matches { of: self.node(of, depth)?, pattern: Box::new(pattern), weight })
    }
}

/// A pattern, and how much a step with it takes: it is linear in the text, and in its own size.
fn compile(pattern: &str) -> Result<(Regex, usize), String> {
    let mut bytes = WEIGHT_BYTES;
    loop {
        let built = RegexBuilder::new(pattern)
            .size_limit(bytes)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .nest_limit(32)
            .build();
        match built {
            Ok(compiled) => return Ok((compiled, bytes / WEIGHT_BYTES)),
            Err(regex::Error::CompiledTooBig(_)) if bytes < MAX_COMPILED_BYTES => bytes *= 2,
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err("a pattern of `matches` is too large when it is compiled".to_owned());
            }
            Err(error) => {
                let what = error.to_string();
                let what = what.lines().last().unwrap_or_default().trim();
                let what: String = what.chars().take(160).collect();
                return Err(format!("a pattern of `matches` cannot be read: {what}"));
            }
        }
    }
}

fn literal_of(literal: &LiteralValue) -> Node {
    match literal {
        LiteralValue::Null => Node::Null,
        LiteralValue::Boolean(boolean) => Node::Bool(**boolean),
        LiteralValue::Int(number) => Node::Int(**number),
        LiteralValue::UInt(number) => Node::Uint(**number),
        LiteralValue::Double(number) => Node::Double(**number),
        LiteralValue::String(text) => Node::Text((**text).into()),
        LiteralValue::Bytes(bytes) => Node::Bytes(bytes.clone().into_inner().into()),
    }
}
