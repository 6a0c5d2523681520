# Shortcuts. Each line is a command you can type yourself; none is the only way.

default:
    @just --list

# What CI runs
ci:
    bash .ci/run

# The broker with the flights mesh
quickstart:
    cargo run --release -- quickstart

# Every test
test:
    cargo test --workspace

# Formatting, lints and documentation, as CI checks them
lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

# The model test of the engine on so many distinct disk images
crash images="1000000":
    MESHLOG_MODEL_IMAGES={{images}} cargo test --workspace --test engine a_crash_in_any_call -- --nocapture

# The shipped binary killed and cut off from power, so often each; root for the power cuts
crash-binary cycles="200":
    MESHLOG_CRASH_CYCLES={{cycles}} cargo test --workspace --test crash

# Licences, sources and duplicate crates
deny:
    cargo deny check bans licenses sources

# One fuzz target for so many seconds; needs nightly Rust and cargo-fuzz. Targets: group footer checkpoint header control directory batch
fuzz target="directory" seconds="60":
    cd storage && cargo +nightly fuzz run {{target}} {{ if target == "batch" { "--features batch" } else { "" } }} -- -max_total_time={{seconds}} -rss_limit_mb=2048

# Meshlog beside Kafka, NATS JetStream and Redis Streams, from package registries; --quick only shows that all runs
peers *args:
    python3 benches/peers/run.py {{args}}

# Leaves each sync, checksum, order and fence of the engine out in turn: some test must notice each
sabotage only="":
    MESHLOG_SABOTAGE="{{only}}" RUSTFLAGS="--cfg sabotage" cargo test --workspace --target-dir target/sabotage --test sabotage
