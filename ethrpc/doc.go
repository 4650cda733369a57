// Package ethrpc reads dstack KMS contracts over JSON-RPC from providers that it does not believe blindly.
//
// Pin chooses a block: it checks the chain id, and asks along with the block for what an unchanged contract takes to be
// proven again. Read then asks at the block's hash (EIP-1898), which means the same to every provider, or, where a provider
// is seen not to honour one, at its number with the hash checked again afterwards. It proves what it can against the state
// root (package proof), fails over to the next provider, and asks for a second opinion where that is wanted.
//
// Contracts share round trips and verified trie nodes, never their fate: each has a Reading of its own, from one provider
// at one block, and code that misbehaves ends its own run.
//
// Its rooms: transport makes calls to one provider, block names blocks, kms knows the contract, logs reads events, proof
// verifies state and runs code over it. Here a read goes from the reader (read.go: which provider, proven or believed) to
// the prover (prover.go: rounds of fetching), to a proving for each contract (proving.go: its code is run, and names what
// is missing).
package ethrpc
