//! The client against a small broker that keeps the contract and can be told to fail.

mod broker;
mod connections;
mod consumer;
mod producer;
mod proxy;
