package ethrpc

import "github.com/ethereum/go-ethereum/common"

// Field is one thing that a contract says of itself.
type Field[T any] struct {
	Value   T
	Present bool  // false without Err: the contract has no such getter, as older generations have none for some
	Err     error // why it could not be read
}

// Control is who controls a contract, what runs there, and what the contract says of its KMS.
type Control struct {
	Owner                Field[common.Address]
	PendingOwner         Field[common.Address] // zero and Present: the contract is offered to nobody
	Implementation       Field[common.Address] // ERC-1967; not Present: the contract is no proxy
	GatewayAppID         Field[string]
	K256Pubkey, CAPubkey Field[[]byte]

	CodeHash               common.Hash // of the contract itself
	ImplementationCodeHash common.Hash // zero without CodeErr: there is no implementation
	CodeErr                error       // why the implementation's code could not be read
}
