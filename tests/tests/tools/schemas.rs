//! Our verdict on pairs of schemas beside that of other people's checkers, on pairs drawn from a seed.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use meshlog_broker::schema::{Profile, Schema, Terms, Weight, can_read, keeps};
use meshlog_proto::v1::{SchemaFormat, SchemaSource};
use serde_json::{Value, json};

use super::install::python_with;
use super::{BUF, Outcome, npm_tool};

/// The version of the Python package that is installed if there is none.
const AVRO: &str = "avro==1.12.2";
const PAIRS: usize = 2_000;
const FILES: usize = 120;

/// SplitMix64; the pairs are the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }
}

fn schema(format: SchemaFormat, text: String, message: &str) -> Option<Schema> {
    let message_name = message.to_owned();
    let source =
        SchemaSource { format: format.into(), text, message_name, ..SchemaSource::default() };
    Schema::parse(&source).ok()
}

/// Python's `avro` and we say the same of pairs of Avro schemas.
pub(super) fn avro_in_python(may_install: bool) -> Outcome {
    let python = match python_with("avro", AVRO, "avro.compatibility", may_install) {
        Ok(python) => python,
        Err(why) => return Outcome::Skipped(why),
    };
    let mut dice = Dice(1);
    let (mut pairs, mut ours, mut lines) = (Vec::new(), Vec::new(), String::new());
    while pairs.len() < PAIRS {
        let (reader, writer) = (avro(&mut dice, 0), avro(&mut dice, 0));
        let parse = |one: &Value| schema(SchemaFormat::Avro, one.to_string(), "");
        let (Some(r), Some(w)) = (parse(&reader), parse(&writer)) else { continue };
        let Ok(found) = can_read(&r, &w, Terms::default()) else { continue };
        let _ = writeln!(lines, "{}", json!([reader, writer]));
        ours.push(found.is_compatible());
        pairs.push((reader, writer));
    }
    let program = "import sys, json\n\
        from avro.schema import parse\n\
        from avro.compatibility import ReaderWriterCompatibilityChecker as C, SchemaCompatibilityType as T\n\
        for line in sys.stdin:\n\
        \x20   r, w = json.loads(line)\n\
        \x20   result = C().get_compatibility(parse(json.dumps(r)), parse(json.dumps(w)))\n\
        \x20   print(1 if result.compatibility is T.compatible else 0)\n";
    let child = Command::new(python)
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => return Outcome::Failed(format!("python cannot be run: {error}")),
    };
    let input = child.stdin.take();
    let feeder = std::thread::spawn(move || {
        input.is_some_and(|mut input| input.write_all(lines.as_bytes()).is_ok())
    });
    let output = match child.wait_with_output() {
        Ok(output) => output,
        Err(error) => return Outcome::Failed(format!("python did not answer: {error}")),
    };
    let fed = feeder.join().unwrap_or(false);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let theirs: Vec<bool> = said.lines().map(|line| line == "1").collect();
    if !fed || theirs.len() != pairs.len() {
        let why = String::from_utf8_lossy(&output.stderr);
        return Outcome::Failed(format!(
            "python answered {} of {PAIRS} pairs:\n{why}",
            theirs.len()
        ));
    }
    let mut differ = String::new();
    for (((reader, writer), ours), theirs) in pairs.iter().zip(&ours).zip(&theirs) {
        if ours != theirs {
            let _ =
                writeln!(differ, "reader {reader}\nwriter {writer}\n  we {ours}, python {theirs}");
        }
    }
    let compatible = theirs.iter().filter(|one| **one).count();
    // Pairs that are all the same say nothing.
    match differ.is_empty() && compatible > PAIRS / 50 && compatible < PAIRS - PAIRS / 50 {
        true => Outcome::Passed,
        false => Outcome::Failed(format!("{compatible} of {PAIRS} compatible\n{differ}")),
    }
}

/// Named types have one definition each: Python compares names by what was defined first.
fn avro(dice: &mut Dice, depth: u64) -> Value {
    let primitives = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
    match dice.roll(if depth > 2 { 8 } else { 14 }) {
        0..8 => json!(dice.one(&primitives)),
        8 => json!({"type": "array", "items": avro(dice, depth + 1)}),
        9 => json!({"type": "map", "values": avro(dice, depth + 1)}),
        10 => {
            let mut branches = vec![json!("null")];
            for one in ["int", "string", "double"] {
                if dice.roll(2) == 0 {
                    branches.push(json!(one));
                }
            }
            json!(branches)
        }
        11 => {
            let size = 4 + 4 * dice.roll(2);
            json!({"type": "fixed", "name": format!("F{depth}{}", dice.roll(2)), "size": size})
        }
        12 => {
            let symbols: Vec<&str> =
                ["A", "B", "C"].into_iter().filter(|_| dice.roll(3) > 0).collect();
            if symbols.is_empty() {
                return json!("string");
            }
            let mut one = json!({"type": "enum", "name": format!("E{depth}"), "symbols": symbols});
            if dice.roll(2) == 0 {
                one["default"] = json!(symbols[0]);
            }
            one
        }
        _ => {
            let mut fields = Vec::new();
            for (at, name) in ["a", "b"].into_iter().enumerate() {
                match dice.roll(6) {
                    0 | 1 => {}
                    2 | 3 => fields.push(json!({"name": name, "type": "int", "default": 1})),
                    _ => {
                        let of = avro(dice, depth + 1 + 3 * at as u64);
                        fields.push(json!({"name": name, "type": of}));
                    }
                }
            }
            json!({"type": "record", "name": format!("R{depth}"), "fields": fields})
        }
    }
}

/// `buf breaking` and we say the same of pairs of `.proto` files, in both of its wire categories.
pub(super) fn protobuf_in_buf(may_install: bool) -> Outcome {
    let buf = match npm_tool("buf", BUF, may_install) {
        Ok(buf) => buf,
        Err(why) => return Outcome::Skipped(why),
    };
    match compare_with_buf(&buf) {
        Ok(differ) if differ.is_empty() => Outcome::Passed,
        Ok(differ) => Outcome::Failed(differ),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn compare_with_buf(buf: &Path) -> std::io::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut dice = Dice(2);
    let mut pairs = Vec::new();
    for (side, from) in [("old", 0), ("new", 1)] {
        std::fs::create_dir(folder.path().join(side))?;
        for at in 0..FILES {
            if from == 0 {
                let old = message(&mut dice);
                let new = changed(&mut dice, &old);
                pairs.push([file(at, &old), file(at, &new)]);
            }
            std::fs::write(
                folder.path().join(side).join(format!("f{at}.proto")),
                &pairs[at][from],
            )?;
        }
    }
    let mut differ = String::new();
    for (category, profile) in [("WIRE", Profile::Wire), ("WIRE_JSON", Profile::WireJson)] {
        for side in ["old", "new"] {
            let config = format!("version: v2\nbreaking:\n  use: [{category}]\n");
            std::fs::write(folder.path().join(side).join("buf.yaml"), config)?;
        }
        let output = Command::new(buf)
            .args(["breaking", ".", "--against", "../old", "--error-format", "json"])
            .current_dir(folder.path().join("new"))
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complained: Vec<Value> =
            said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        if complained.is_empty() {
            let why = String::from_utf8_lossy(&output.stderr);
            return Ok(format!("buf found nothing in {FILES} files: {why}"));
        }
        let mut breaking = 0;
        for (at, [old, new]) in pairs.iter().enumerate() {
            let name = format!("f{at}.proto");
            let of_file: Vec<&Value> = complained
                .iter()
                .filter(|one| {
                    one["path"]
                        .as_str()
                        .is_some_and(|path| path.ends_with(&format!("/{name}")) || path == name)
                })
                .collect();
            let terms = Terms { profile, ..Terms::default() };
            let parse =
                |text: &String| schema(SchemaFormat::Protobuf, text.clone(), &format!("p{at}.M"));
            let (Some(old_schema), Some(new_schema)) = (parse(old), parse(new)) else {
                return Ok(format!("not a schema:\n{old}\n{new}"));
            };
            let found = [
                can_read(&new_schema, &old_schema, terms),
                can_read(&old_schema, &new_schema, terms),
                keeps(&new_schema, &old_schema, terms),
            ];
            let rules: Vec<&str> = found
                .iter()
                .flatten()
                .flat_map(|one| &one.differences)
                .filter(|one| one.weight != Weight::Warning)
                .map(|one| one.rule)
                .collect();
            breaking += usize::from(!of_file.is_empty());
            if rules.is_empty() != of_file.is_empty() {
                let types: Vec<&Value> = of_file.iter().map(|one| &one["type"]).collect();
                let _ = writeln!(differ, "{category}: we {rules:?}, buf {types:?}\n{old}\n{new}");
            }
        }
        if !(FILES / 10..=FILES - FILES / 10).contains(&breaking) {
            let _ =
                writeln!(differ, "{category}: {breaking} of {FILES} break, which says too little");
        }
    }
    Ok(differ)
}

/// One field: number, name, label, type.
type Field = (u32, String, &'static str, &'static str);

const TYPES: [&str; 13] = [
    "int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "string", "bytes", "fixed32",
    "sfixed32", "double", "E",
];

fn message(dice: &mut Dice) -> (Vec<Field>, String) {
    let mut fields = Vec::new();
    for number in 1..=4 {
        let label = dice.one(&["", "", "optional ", "repeated "]);
        fields.push((number, format!("f{number}"), label, dice.one(&TYPES)));
    }
    (fields, String::new())
}

/// One change, or none.
fn changed(dice: &mut Dice, old: &(Vec<Field>, String)) -> (Vec<Field>, String) {
    let (mut fields, mut reserved) = old.clone();
    let at = dice.roll(fields.len() as u64) as usize;
    match dice.roll(8) {
        0 => fields[at].3 = dice.one(&TYPES),
        1 => fields[at].3 = dice.one(&["int32", "int64", "uint32", "bool", "sint32", "bytes"]),
        2 => fields[at].2 = dice.one(&["", "optional ", "repeated "]),
        3 => fields[at].1 += "x",
        4 => {
            fields.remove(at);
        }
        5 => {
            let (number, name, ..) = fields.remove(at);
            reserved = format!("reserved {number}; reserved \"{name}\";");
        }
        6 => {
            let (number, ..) = fields.remove(at);
            reserved = format!("reserved {number};");
        }
        _ => fields.push((9, "f9".to_owned(), "", dice.one(&TYPES))),
    }
    // buf looks from old to new alone, where every string is bytes; we are asked for both ways here.
    if let (Some((.., "string")), Some((.., new @ "bytes"))) = (old.0.get(at), fields.get_mut(at)) {
        *new = "bool";
    }
    (fields, reserved)
}

fn file(at: usize, (fields, reserved): &(Vec<Field>, String)) -> String {
    let mut text = format!(
        "syntax = \"proto3\";\npackage p{at};\nenum E {{ E_ZERO = 0; E_ONE = 1; }}\nmessage M {{\n  {reserved}\n"
    );
    for (number, name, label, of) in fields {
        let _ = writeln!(text, "  {label}{of} {name} = {number};");
    }
    text + "}\n"
}
