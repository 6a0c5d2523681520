//! The main job on real input: the whole of nycflights13 in, and out again, before and after a
//! restart. What must come back is computed here from the CSV files, not by the code under test.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::harness::{TestBroker, flights, root};

struct Table {
    product: &'static str,
    name: &'static str,
    rows: usize,
    sha256: &'static str,
    key: &'static str,
    partitions: u32,
}

const TABLES: [Table; 5] = [
    Table {
        product: "reference.airlines",
        name: "airlines",
        rows: 16,
        sha256: "162551bd3401a12d63db3d92b7e66af3017d2e40d55919d6a678489323c10609",
        key: "carrier",
        partitions: 1,
    },
    Table {
        product: "reference.airports",
        name: "airports",
        rows: 1_458,
        sha256: "36c290b69800422f36618f471a042b670b9329e8eb0686eff44f371a9761e148",
        key: "faa",
        partitions: 1,
    },
    Table {
        product: "fleet.planes",
        name: "planes",
        rows: 3_322,
        sha256: "778962edec8339f6f6edb1d6506869f61cab573eda03d7e162d2899c76d04c1a",
        key: "tailnum",
        partitions: 2,
    },
    Table {
        product: "weather.observations",
        name: "weather",
        rows: 26_115,
        sha256: "5d1ea2548a3941eac0b4a9ca70805daa9fa49bbb711a0c7557b2bba0bd7c3f64",
        key: "origin",
        partitions: 3,
    },
    Table {
        product: "ops.flights",
        name: "flights",
        rows: 336_776,
        sha256: "563db8f117faf6ffd76aa868099df37dfa78dc17b5ac6d3d9ea6476e051a0bc4",
        key: "dest",
        partitions: 4,
    },
];

/// Ordered values of one partition: how many, and the SHA-256 over them, a line feed after each.
type Content = (usize, String);

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The published table, checked against its SHA-256.
fn csv(table: &Table) -> String {
    let directory = root().join("tests/data/nycflights13");
    let plain = directory.join(format!("{}.csv", table.name));
    let text = if plain.exists() {
        std::fs::read_to_string(plain).unwrap()
    } else {
        let packed = std::fs::read(directory.join(format!("{}.csv.zst", table.name))).unwrap();
        String::from_utf8(zstd::decode_all(packed.as_slice()).unwrap()).unwrap()
    };
    assert_eq!(hex(Sha256::digest(&text)), table.sha256, "{}", table.name);
    assert_eq!(text.lines().count(), table.rows + 1);
    text
}

/// Kafka's murmur2 and its choice of a partition.
fn partition_of(key: &[u8], partitions: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (n, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * n);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^= h >> 15;
    (h & 0x7fff_ffff) % partitions
}

/// What each partition must hold. The tables have no quotes, so a comma always ends a cell.
fn expected(table: &Table, csv: &str) -> BTreeMap<u32, Content> {
    let schema = std::fs::read_to_string(flights(&format!("schemas/{}.json", table.name))).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let mut lines = csv.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    let text: Vec<bool> = columns
        .iter()
        .map(|column| schema["properties"][column]["type"].to_string().contains("string"))
        .collect();
    let key = columns.iter().position(|column| *column == table.key).unwrap();
    let mut partitions: BTreeMap<u32, (usize, Sha256)> = BTreeMap::new();
    for line in lines {
        let cells: Vec<&str> = line.split(',').collect();
        let members: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(n, cell)| match *cell {
                "NA" => format!("\"{}\":null", columns[n]),
                cell if text[n] => {
                    format!("\"{}\":\"{}\"", columns[n], cell.replace('\\', "\\\\"))
                }
                cell => format!("\"{}\":{cell}", columns[n]),
            })
            .collect();
        let partition = partition_of(cells[key].as_bytes(), table.partitions);
        let (count, hash) = partitions.entry(partition).or_default();
        *count += 1;
        hash.update(format!("{{{}}}\n", members.join(",")));
    }
    let done = |(partition, (count, hash)): (u32, (usize, Sha256))| {
        (partition, (count, hex(hash.finalize())))
    };
    partitions.into_iter().map(done).collect()
}

/// What each partition holds.
fn stored(broker: &TestBroker, table: &Table) -> BTreeMap<u32, Content> {
    let mut partitions = BTreeMap::new();
    for partition in 0..table.partitions {
        let number = partition.to_string();
        let values = broker.consume(&[table.product, "--partition", &number, "-o", "raw"]);
        if !values.is_empty() {
            partitions.insert(partition, (values.lines().count(), hex(Sha256::digest(values))));
        }
    }
    partitions
}

#[test]
fn the_full_set_comes_back_identical_before_and_after_a_restart() {
    let broker = TestBroker::on_disk();
    let mut wanted = Vec::new();
    for table in &TABLES {
        let csv = csv(table);
        let partitions = table.partitions.to_string();
        let rule: &[&str] = match table.name {
            "flights" => &[],
            _ => &["--key", table.key],
        };
        let schema = format!("{}.json", table.name);
        let args = [&["--partitions", &partitions], rule].concat();
        broker.product(table.product, &schema, &args);
        let produce =
            ["produce", table.product, "--format", "csv", "--null", "NA", "--key-field", table.key];
        let outcome = broker.run_with(&produce, &csv);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let expected = expected(table, &csv);
        assert_eq!(expected.values().map(|(count, _)| count).sum::<usize>(), table.rows);
        wanted.push(expected);
    }
    for (table, wanted) in TABLES.iter().zip(&wanted) {
        assert_eq!(stored(&broker, table), *wanted, "{} before the restart", table.product);
    }
    let broker = broker.restart();
    for (table, wanted) in TABLES.iter().zip(&wanted) {
        assert_eq!(stored(&broker, table), *wanted, "{} after the restart", table.product);
    }
}
