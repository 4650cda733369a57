// Package ethrpc reads dstack KMS contracts over JSON-RPC from providers that it does not trust.
//
// Pin chooses a block and checks the chain id. The same request asks for what proves an unchanged contract again. Read
// then asks at the block's hash (EIP-1898), which means the same to every provider. If a provider ignores block hashes,
// Read asks at the block's number and checks the hash afterwards. Read proves answers against the state root (package
// proof), fails over to the next provider, and compares several providers where the configuration asks for a quorum.
//
// Contracts share round trips and verified trie nodes, but not their fate. Each has its own Reading, from one provider at
// one block. A contract whose code misbehaves ends its own run.
//
// Packages: transport (calls to one provider), block (tags and blocks), kms (the contract's getters and slots), logs
// (events), proof (verified state and a local EVM). In this package a read goes through three steps: the reader chooses
// the provider and whether to prove (read.go), the prover fetches proofs in rounds (prover.go), and a proving runs one
// contract's code and lists the state that is missing (proving.go).
package ethrpc
