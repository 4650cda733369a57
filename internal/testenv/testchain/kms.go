package testchain

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/accounts/abi/bind/v2"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
)

// Backend is the chain access that Deploy needs. simulated.Client and *ethclient.Client implement it.
type Backend interface {
	bind.Backend
	ChainID(ctx context.Context) (*big.Int, error)
}

// DeployOptions configure Deploy.
type DeployOptions struct {
	Key            *ecdsa.PrivateKey // pays for and owns the contract; nil means Key("owner")
	Implementation string            // name of a contract; empty means Plain
	Mine           func()            // seals a block after each transaction; nil if the chain does so itself
}

// KMS is a deployed contract, used by one account. Its methods return when their transactions are mined. They must not run
// concurrently with others of the same account.
type KMS struct {
	address common.Address
	backend Backend
	key     *ecdsa.PrivateKey
	mine    func()
}

// Deploy deploys an implementation and a proxy, and makes the key's account the owner.
func Deploy(ctx context.Context, b Backend, o DeployOptions) (*KMS, error) {
	k := newKMS(b, &o)
	impl, initialize, err := k.implementation(ctx, o.Implementation)
	if err != nil {
		return nil, err
	}
	k.address, err = k.create(ctx, proxy, impl, initialize)
	return k, err
}

func newKMS(b Backend, o *DeployOptions) *KMS {
	k := &KMS{backend: b, key: o.Key, mine: o.Mine}
	if k.key == nil {
		k.key = Key("owner")
	}
	if k.mine == nil {
		k.mine = func() {}
	}
	if o.Implementation == "" {
		o.Implementation = Plain
	}
	return k
}

// implementation deploys an implementation by name, and returns the call data that makes the key's account the owner.
func (k *KMS) implementation(ctx context.Context, name string) (at common.Address, initialize []byte, err error) {
	if at, err = k.create(ctx, name); err != nil {
		return at, nil, err
	}
	kms, err := Contract(name)
	if err != nil {
		return at, nil, err
	}
	if initialize, err = kms.ABI.Pack("initialize", account(k.key)); err != nil {
		err = fmt.Errorf("packing initialize: %w", err)
	}
	return at, initialize, err
}

// Address returns the proxy's address.
func (k *KMS) Address() common.Address { return k.address }

// As returns the same contract, used by another account.
func (k *KMS) As(key *ecdsa.PrivateKey) *KMS {
	as := *k
	as.key = key
	return &as
}

// AllowDevice adds id to the devices that may run the KMS.
func (k *KMS) AllowDevice(ctx context.Context, id common.Hash) error {
	return k.send(ctx, "addKmsDevice", id)
}

// RemoveDevice removes id from the devices.
func (k *KMS) RemoveDevice(ctx context.Context, id common.Hash) error {
	return k.send(ctx, "removeKmsDevice", id)
}

// AllowImage adds id to the OS images.
func (k *KMS) AllowImage(ctx context.Context, id common.Hash) error {
	return k.send(ctx, "addOsImageHash", id)
}

// RemoveImage removes id from the OS images.
func (k *KMS) RemoveImage(ctx context.Context, id common.Hash) error {
	return k.send(ctx, "removeOsImageHash", id)
}

// SneakDevice changes the device list without an event. The implementation must be Backdoor.
func (k *KMS) SneakDevice(ctx context.Context, id common.Hash, allowed bool) error {
	return k.send(ctx, "sneakDevice", id, allowed)
}

// SneakImage changes the image list without an event. The implementation must be Backdoor.
func (k *KMS) SneakImage(ctx context.Context, id common.Hash, allowed bool) error {
	return k.send(ctx, "sneakImage", id, allowed)
}

// Upgrade deploys the named implementation and points the proxy at it.
func (k *KMS) Upgrade(ctx context.Context, implementation string) (common.Address, error) {
	impl, err := k.create(ctx, implementation)
	if err != nil {
		return common.Address{}, err
	}
	return impl, k.send(ctx, "upgradeToAndCall", impl, []byte{})
}

// TransferOwnership offers the contract to an account and accepts it there. That account must be able to pay for gas.
func (k *KMS) TransferOwnership(ctx context.Context, to *ecdsa.PrivateKey) error {
	next := k.As(to)
	if err := k.send(ctx, "transferOwnership", account(to)); err != nil {
		return err
	}
	return next.send(ctx, "acceptOwnership")
}

func (k *KMS) send(ctx context.Context, method string, args ...any) error {
	_, err := k.Send(ctx, method, args...)
	return err
}

// Send calls any writer of the contract and returns the receipt.
func (k *KMS) Send(ctx context.Context, method string, args ...any) (*types.Receipt, error) {
	bound, err := k.bound(method)
	if err != nil {
		return nil, err
	}
	return k.transact(ctx, bound, method, args...)
}

// RegisterThrough registers an app through another contract. The implementation must be May.
func (k *KMS) RegisterThrough(ctx context.Context, controller common.Address) error {
	return k.through(ctx, "register", k.address, controller)
}

// Flood registers one app several times in one transaction.
func (k *KMS) Flood(ctx context.Context, app common.Address, times int) error {
	return k.through(ctx, "flood", k.address, app, big.NewInt(int64(times)))
}

func (k *KMS) through(ctx context.Context, method string, args ...any) error {
	at, err := k.create(ctx, registrar)
	if err != nil {
		return err
	}
	a, err := Contract(registrar)
	if err != nil {
		return err
	}
	_, err = k.transact(ctx, bind.NewBoundContract(at, a.ABI, k.backend, k.backend, k.backend), method, args...)
	return err
}

func (k *KMS) transact(ctx context.Context, bound *bind.BoundContract, method string, args ...any) (*types.Receipt, error) {
	opts, err := k.opts(ctx)
	if err != nil {
		return nil, err
	}
	var tx *types.Transaction
	err = funded(ctx, func() (err error) {
		tx, err = bound.Transact(opts, method, args...)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("sending %s: %w", method, err)
	}
	k.mine()
	receipt, err := k.receipt(ctx, tx.Hash())
	if err != nil {
		return nil, fmt.Errorf("mining %s: %w", method, err)
	}
	return receipt, nil
}

// Call calls any getter of the contract at the head.
func (k *KMS) Call(ctx context.Context, method string, args ...any) ([]any, error) {
	bound, err := k.bound(method)
	if err != nil {
		return nil, err
	}
	var out []any
	if err := bound.Call(&bind.CallOpts{Context: ctx}, &out, method, args...); err != nil {
		return nil, fmt.Errorf("calling %s: %w", method, err)
	}
	return out, nil
}

// bound binds the contract to the first artifact that has the method. Together they have all methods of the others.
func (k *KMS) bound(method string) (*bind.BoundContract, error) {
	for _, name := range []string{Backdoor, May, Before, Hostile} {
		a, err := Contract(name)
		if err != nil {
			return nil, err
		}
		if _, has := a.ABI.Methods[method]; has {
			return bind.NewBoundContract(k.address, a.ABI, k.backend, k.backend, k.backend), nil
		}
	}
	return nil, fmt.Errorf("no contract has the method %s", method)
}

func (k *KMS) opts(ctx context.Context) (*bind.TransactOpts, error) {
	id, err := k.backend.ChainID(ctx)
	if err != nil {
		return nil, fmt.Errorf("asking for the chain id: %w", err)
	}
	opts := bind.NewKeyedTransactor(k.key, id)
	opts.Context = ctx
	return opts, nil
}

func (k *KMS) create(ctx context.Context, name string, args ...any) (common.Address, error) {
	a, err := Contract(name)
	if err != nil {
		return common.Address{}, err
	}
	input, err := a.ABI.Pack("", args...)
	if err != nil {
		return common.Address{}, fmt.Errorf("packing the constructor of %s: %w", name, err)
	}
	opts, err := k.opts(ctx)
	if err != nil {
		return common.Address{}, err
	}
	var tx *types.Transaction
	err = funded(ctx, func() (err error) {
		_, tx, err = bind.DeployContract(opts, a.Bytecode, k.backend, input)
		return err
	})
	if err != nil {
		return common.Address{}, fmt.Errorf("deploying %s: %w", name, err)
	}
	k.mine()
	receipt, err := k.receipt(ctx, tx.Hash())
	if err != nil {
		return common.Address{}, fmt.Errorf("mining %s: %w", name, err)
	}
	return receipt.ContractAddress, nil
}

// funded sends a transaction, and retries for a while if the node's pool does not know of the account's funds yet.
func funded(ctx context.Context, send func() error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for looks := 1; ; looks++ {
		err := send()
		if err == nil || looks == 500 || !strings.Contains(err.Error(), "insufficient funds") {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
	}
}

// receipt waits for a transaction like bind.WaitMined, but polls faster. On a busy machine a sealed block may lack a transaction
// that was just sent; then receipt seals another one.
func (k *KMS) receipt(ctx context.Context, tx common.Hash) (*types.Receipt, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for looks := 1; ; looks++ {
		r, err := k.backend.TransactionReceipt(ctx, tx)
		switch {
		case err == nil && r.Status == types.ReceiptStatusSuccessful:
			return r, nil
		case err == nil:
			return nil, fmt.Errorf("transaction %s was reverted", tx)
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-tick.C:
		}
		if looks == 2*maxLooks {
			return nil, fmt.Errorf("the node does not mine transaction %s: %w", tx, err)
		}
		if looks%100 == 0 {
			k.mine()
		}
		if c, real := k.backend.(*ethclient.Client); real && looks%400 == 0 {
			nudge(ctx, c)
		}
	}
}
