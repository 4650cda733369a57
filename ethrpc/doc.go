// Package ethrpc reads dstack KMS contracts over JSON-RPC from providers that it does not believe blindly.
//
// One Read asks one provider: it checks the chain id, pins a block, and reads every id at that block, by its hash
// (EIP-1898) where the provider is seen to honour one, else by its number with the hash checked again afterwards.
// A provider that cannot do that, or answers in a shape that no node answers, is left for the next one, which
// starts anew: answers of two providers, or of two blocks, are never mixed.
package ethrpc
