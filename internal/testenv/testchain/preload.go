package testchain

import (
	"fmt"
	"math"
	"math/big"
	"slices"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/core/vm/runtime"
	"github.com/ethereum/go-ethereum/crypto"
)

// Preload is a contract in the genesis block, at an address of the caller's choice. Its state is that after Deploy and Seed of the
// Plain implementation, without the events.
type Preload struct {
	Address         common.Address
	Devices, Images []common.Hash
}

// Storage slots: the contract's own in the order of Kms.sol, then those of ERC-1967 and ERC-7201.
const (
	deviceSlot = 7
	imageSlot  = 8
)

var (
	implementationSlot = minusOne(crypto.Keccak256Hash([]byte("eip1967.proxy.implementation")))
	ownerSlot          = namespace("openzeppelin.storage.Ownable")
	initializedSlot    = namespace("openzeppelin.storage.Initializable")

	yes = common.BigToHash(common.Big1)
)

// into adds the proxy and its implementation to alloc. It runs the constructors, because the code that they return contains the
// implementation's own address.
func (p Preload) into(alloc types.GenesisAlloc) error {
	scratch := &runtime.Config{Origin: Address("preload")}
	impl, code, err := construct(scratch, Plain)
	if err != nil {
		return err
	}
	_, proxyCode, err := construct(scratch, proxy, impl, []byte{})
	if err != nil {
		return err
	}
	storage := map[common.Hash]common.Hash{
		implementationSlot: common.BytesToHash(impl[:]),
		ownerSlot:          common.BytesToHash(Address("owner").Bytes()),
		initializedSlot:    yes,
	}
	for _, id := range p.Devices {
		storage[mapped(id, deviceSlot)] = yes
	}
	for _, id := range p.Images {
		storage[mapped(id, imageSlot)] = yes
	}
	// The largest version, so that nobody can initialize the implementation itself.
	never := common.BigToHash(new(big.Int).SetUint64(math.MaxUint64))
	alloc[impl] = types.Account{Code: code, Storage: map[common.Hash]common.Hash{initializedSlot: never}}
	alloc[p.Address] = types.Account{Code: proxyCode, Storage: storage}
	return nil
}

func construct(cfg *runtime.Config, name string, args ...any) (common.Address, []byte, error) {
	a, err := Contract(name)
	if err != nil {
		return common.Address{}, nil, err
	}
	input, err := a.ABI.Pack("", args...)
	if err != nil {
		return common.Address{}, nil, fmt.Errorf("packing the constructor of %s: %w", name, err)
	}
	code, at, _, err := runtime.Create(slices.Concat(a.Bytecode, input), cfg)
	if err != nil {
		return common.Address{}, nil, fmt.Errorf("constructing %s: %w", name, err)
	}
	return at, code, nil
}

// mapped returns the slot of a key in the mapping at slot.
func mapped(key common.Hash, slot byte) common.Hash {
	return crypto.Keccak256Hash(key[:], common.LeftPadBytes([]byte{slot}, 32))
}

// namespace returns the first slot of an ERC-7201 namespace.
func namespace(id string) common.Hash {
	inner := minusOne(crypto.Keccak256Hash([]byte(id)))
	h := crypto.Keccak256Hash(inner[:])
	h[31] = 0
	return h
}

func minusOne(h common.Hash) common.Hash {
	return common.BigToHash(new(big.Int).Sub(h.Big(), common.Big1))
}
